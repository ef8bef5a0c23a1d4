"""Runs cases, with one process per worker: mounts or connects, judges the outcome, keeps the evidence."""
