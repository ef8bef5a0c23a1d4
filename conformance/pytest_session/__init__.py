"""What the plugin hangs into a pytest session: its options, progress on the terminal, workers, completeness."""
