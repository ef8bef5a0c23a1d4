"""How a request fails: with one number, decided in one place.

The rule of this module: exceptions of handlers and stores become ``Rlerror.ecode`` only here.
"""

from __future__ import annotations

import errno

from protocol import constants


class Refused(Exception):
    """The request is answered with ``Rlerror``; nothing about the session changes."""

    def __init__(self, ecode: int) -> None:
        super().__init__(constants.ERRNO_NAMES.get(ecode, str(ecode)))
        self.ecode = ecode


class WouldBlock(Exception):
    """Raised by a store that was asked not to wait: the caller repeats the call where waiting is
    allowed.
    """


# By name, because the numbers of the host need not be the generic ones that the wire carries (MIPS, Alpha,
# BSD).
_WIRE = {getattr(errno, name): number for number, name in constants.ERRNO_NAMES.items() if hasattr(errno, name)}
# The process ran out of descriptors, not the guest: open(2) in the guest must not claim that its own table is
# full (kvmtool 9c2e1d1).
_WIRE[errno.EMFILE] = constants.ENFILE


def ecode_of(error: OSError) -> int:
    """The generic Linux number for what the host reported; EIO if the host gave none."""
    return _WIRE.get(error.errno or 0, constants.EIO)
