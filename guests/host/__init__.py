"""This host's processes, locks, ports, paths and signals; nothing is left behind."""
