"""Runs cases, one worker a process: mounts or connects, judges what came of it, keeps the evidence."""
