"""The reports of a run, derived from its journal alone: page, JSON, text. They can be written again at any time."""
