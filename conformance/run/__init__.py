"""Runs cases, one worker a process: mounts or connects, judges the outcome, keeps the evidence."""
