"""Programs that run inside the guest: pushed there as they are, standard library only, Python 3.9.

Rule of this package: it imports nothing of ours but itself.
"""
