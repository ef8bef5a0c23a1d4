"""What the components of targets declare: one TOML each (linux-client, qemu-device, ...) and the model of both."""
