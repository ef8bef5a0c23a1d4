"""Resources that all clients share, so that none of them can exhaust what the others need.

The rule of this module: a client may hold as much as is left, and never more.  A single client gets half of
everything; each further client that takes all it can gets half of the rest; and a client that holds little still gets
something when others hold much.  The number of clients need not be known in advance.

Source: the dynamic threshold by which switches share a buffer between ports (Choudhury and Hahne, "Dynamic Queue
Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM Transactions on Networking 6(2), 1998), with alpha = 1.
"""

from __future__ import annotations

from threading import Lock

from reference_server.limits import Shared


class Pot:
    """A number of units of one resource."""

    def __init__(self, size: int, lock: Lock) -> None:
        self.size = size
        self.left = size
        """Units that no client holds."""
        self.lock = lock
        """Held while units are taken or given back."""

    def share(self) -> Share:
        """A new client's part, empty."""
        return Share(self)


class Share:
    """One client's part."""

    __slots__ = ("held", "pot")

    def __init__(self, pot: Pot) -> None:
        self.pot = pot
        self.held = 0
        """How many the client holds."""

    def take(self, count: int = 1) -> bool:
        """Take ``count`` more; false, without taking any, if the client would then hold more than is left. The pot's
        lock is held."""
        pot = self.pot
        if self.held + count > pot.left - count:
            return False
        pot.left -= count
        self.held += count
        return True

    def give(self, count: int = 1) -> None:
        """Give ``count`` back.  The pot's lock is held."""
        self.pot.left += count
        self.held -= count


class Client:
    """One client and its shares of all pots, made on first use."""

    def __init__(self) -> None:
        self._shares: dict[Pot, Share] = {}

    def of(self, pot: Pot) -> Share:
        """The client's part of ``pot``."""
        share = self._shares.get(pot)
        # setdefault: another thread may have been faster, and there must be one part only
        return self._shares.setdefault(pot, pot.share()) if share is None else share


class Commons:
    """What the clients of one server share, besides its descriptors (:class:`Descriptors`)."""

    def __init__(self, limits: Shared | None = None) -> None:
        limits = limits or Shared()
        self.fids = Pot(limits.fids, Lock())
        self.connections = Pot(limits.connections, Lock())
