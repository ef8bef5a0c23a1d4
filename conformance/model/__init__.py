"""A pure model of a file system: the allowed results of each call of a sequence, and the tree after it.

The sequence layer plays random sequences of calls on the share, on a native file system and on this model. SibylFS
(https://doi.org/10.1145/2815400.2815411) is the example: an oracle that says which outcomes are allowed, not which one
an implementation happens to give. Nothing in this package makes a system call or knows what a share is.
"""
