"""The record of a run, collected while it runs, and what is derived from it alone: counts, facts, sums.

Nothing here imports targets, guests' machines or pytest.
"""
