"""The commands `serve` and `frames`."""
