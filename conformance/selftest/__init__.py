"""Faults that are put into servers on purpose, each with the case that must find it: a measure of the suite."""
