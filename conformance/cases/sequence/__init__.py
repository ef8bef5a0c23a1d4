"""Layer sequence: the same random calls on the share and on a model, shrunk to the shortest sequence that fails."""
