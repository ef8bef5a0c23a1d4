"""What a run leaves: the record, collected while it runs, and what follows from it: counts, the gate, changes.

Nothing here imports targets, guests' machines or pytest.
"""
