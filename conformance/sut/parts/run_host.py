"""This host as one run uses it: where the exported directory lives, unless another host is named.

Rule of this module: it knows nothing of guests. As root, the agent outside holds the run's own mount namespace: nobody
else sees what property cases mount there, and it ends with the agent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost, HostGround, Place, results_place, scratch_place
from conformance.sut.parts.containment import contain
from conformance.sut.parts.scratch import Scratch
from guests.agent.hosts import LocalHost
from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel
from guests.host.endings import sent_signal
from guests.host.processes import stopped

_AGAIN = "it is started again"


class RunHost(LocalHost):
    """A scratch directory, the agent outside, and the ground that a run stands on here."""

    def __init__(self, results: Path, *more: Place, export_fs: str | None = None) -> None:
        """`export_fs`: the kind of a new file system for the scratch directory. Raises InfrastructureError."""
        self.scratch = Scratch()
        self.ground = HostGround([scratch_place(self.scratch.path), results_place(results), *more])
        if export_fs:
            self.scratch.lie_on(export_fs)
        self.launcher: tuple[str, ...] = ()
        """Words before a command that make it run in the mount namespace of the run."""
        self._holder: tuple[LocalChannel, AgentLink] | None = None

    @property
    def pid(self) -> int:
        """The agent outside; 0 before it is started."""
        return self._holder[0].pid if self._holder is not None else 0

    def start_agent(self) -> LocalChannel:
        """See Host: a further agent, in the namespace of the run."""
        return LocalChannel(self.launcher)

    def start_holder(
        self, enter: tuple[str, ...] = (), *, writable: Sequence[Path] = (), log: Path | None = None
    ) -> AgentLink:
        """Start the agent outside; `launcher` then enters its namespace, if it has its own.

        The command `enter` makes the namespace; without it the agent can write only below `writable`.
        """
        prepare = partial(contain, [os.fsencode(path) for path in writable]) if writable else None
        channel = LocalChannel(enter, stderr=log, prepare=prepare)
        link = AgentLink(channel)
        self._holder = channel, link
        link.calls.getpid()
        self.launcher = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--") if enter or writable else ()
        return link

    def close(self) -> None:
        """See Host: end the agent outside."""
        if self._holder is not None:
            with contextlib.suppress(InfrastructureError, OSError):
                self._holder[1].close()

    def lost(self, answer_limit: float) -> GroundLost | None:
        """What is broken on this host, including the agent outside; None if nothing is."""
        return self.ground.lost() or self._holder_lost(answer_limit)

    def _holder_lost(self, answer_limit: float) -> GroundLost | None:
        if self._holder is None:
            return None
        channel, link = self._holder
        if (status := channel.status) is not None:
            how = sent_signal(status) or f"status {status}"
            return GroundLost(
                f"the agent outside was ended by {how}, and the mount namespace of the run with it",
                f"{_AGAIN}; find the process that ended it",
            )
        if (why := stopped("the agent outside", channel.pid)) is not None:
            return GroundLost(*why)
        try:
            link.calls_with(timeout=answer_limit).getpid()
        except Exception as error:  # noqa: BLE001 - in any case it makes no further calls
            return GroundLost(f"the agent outside does not answer: {error}", _AGAIN)
        return None
