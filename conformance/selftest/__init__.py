"""Deliberate faults in servers, each with the case that must find it: a measure of the suite."""
