"""A run compared with others: the gate, baselines, changes, repeated runs, and a signed statement of the result."""
