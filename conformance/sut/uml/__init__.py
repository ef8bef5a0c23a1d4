"""Targets with a User-Mode Linux guest."""
