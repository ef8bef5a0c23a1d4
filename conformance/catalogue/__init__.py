"""The index of all cases, and who decides each of them, without running any."""
