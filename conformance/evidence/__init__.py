"""What a run leaves: the record, collected while it runs, and what follows from it alone: counts, facts, sums.

Nothing here imports targets, guests' machines or pytest.
"""
