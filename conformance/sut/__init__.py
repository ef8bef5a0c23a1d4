"""Systems under test: what a target's TOML may say, and the code that brings each kind up."""
