"""Which cases there are, and who decides each: known without running one."""
