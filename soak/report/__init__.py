"""The reports of a run, derived from its journal alone: page, JSON, text. They can be made anew at any time."""
