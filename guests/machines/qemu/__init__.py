"""Guests under QEMU: its command line, its start, its snapshots, its control socket."""
