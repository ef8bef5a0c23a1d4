"""The index of all cases and who decides each of them, known without running one."""
