"""Programs that run inside the guest: pushed there unchanged, standard library only, Python 3.9.

Rule of this package: it imports none of our other packages.
"""
