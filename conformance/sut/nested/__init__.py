"""Kind `nested`: a hypervisor in a guest of the suite's own; KVM works there, where this host has none."""
