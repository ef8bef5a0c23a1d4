"""This host: its processes, locks, ports, paths and signals; nothing is left behind."""
