"""The parts of the pytest plugin: options, progress on the terminal, workers, completeness."""
