"""The vocabulary that both ends of a 9P2000.L conversation share.

The rule of this package: declarations and pure functions only.  It imports the standard library and itself,
opens nothing, waits for nothing and never asks what time it is, so that the suite and the server it judges
may both use it without sharing behaviour.

Start at :mod:`protocol.messages`; each message is declared there once and nothing about it is repeated
elsewhere.
"""
