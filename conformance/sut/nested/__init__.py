"""Kind `nested`: a hypervisor in one of the suite's own guests; KVM works there, even if this host has none."""
