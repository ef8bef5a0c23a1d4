"""What a run comes to beside others: the gate, baselines, changes, repeated tries, and a statement of it to sign."""
