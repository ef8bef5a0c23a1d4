"""Systems under test: the model of a target's TOML, and the kinds that bring a target up."""
