"""Targets: one TOML per implementation under test as deployed, and the code that brings each kind up."""
