"""Profiles of components: one TOML each (linux-client, qemu-device, ...) and their model."""
