"""Layer sequence: random calls in step on the share and on a model, shrunk to the shortest sequence that fails."""
