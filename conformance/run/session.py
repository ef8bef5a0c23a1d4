"""One worker's server for the layers wire and ring: started, probed, checked after each case, restored.

`WireSession` is made once per worker: `start`, then `run` for each case, `recover` after a death (which `run` does
itself), `stop`. Rule of this module: it contains no requirement of the protocol; those are in the cases.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.case import Case
from conformance.checks import collecting, ended, findings_of
from conformance.errors import Finding, InfrastructureError, TargetDied, Undrivable
from conformance.ground import GroundLost, HostGround, served_place
from conformance.profiles.model import Profile
from conformance.raw.far_directory import on_host
from conformance.raw.findings import HungUp, NoReply
from conformance.raw.health import implemented, serve
from conformance.raw.host_directory import HostDirectory
from conformance.raw.operations import Client
from conformance.raw.server import Server
from conformance.raw.wire import HUNG_UP, Wire
from conformance.transports.base import Capability, Link
from conformance.vfs.trace import Crossed

Make = Callable[[Path], Server]
"""Makes a server, not yet started, whose files go into that directory."""

_ALIVE = 10.0
"""Seconds within which each request of the work that follows a case must be answered."""
_OFTEN = 3000
"""Repetitions that fit into a case's time limit."""
_DYING = 0.4
"""Seconds that a process may need to end after it closed the connection."""


@dataclass(frozen=True, slots=True)
class WireOutcome:
    """The outcome of one case: its exception (None: it passed), the messages, the server's log."""

    raised: BaseException | None
    crossed: Crossed
    log: str
    seconds: float


class WireSession:
    """One worker's server."""

    patience: float = 1.0
    """The factor on a case's time limit where each step is a round trip into a guest."""
    requests = 0
    """How often a case repeats what it is there to repeat; 0: as often as the case says."""

    def __init__(self, make: Make, run_dir: Path, profile: Profile = Profile()) -> None:  # noqa: B008 - frozen
        self.features, self.unsupported = frozenset(profile.features), profile.unsupported
        self.base = Path(tempfile.mkdtemp(prefix="server-", dir=run_dir))
        """The server's own directory: its export, its log, and files beside the export that it must not reach."""
        self.server: Server = make(self.base)
        self.spec = self.server.spec
        self.capabilities = self.server.capabilities
        self.patience = getattr(self.server, "patience", 1.0)
        self._ground = HostGround([served_place(self.base)])
        self.missing: dict[str, str] = {}
        """The messages that the server does not implement, and how it answered them."""
        self._works = False
        """Whether the server could do a small piece of work from attach to remove before the first case."""
        self._hurt_for_good = ""
        """The case since which the server does not serve, even after a restart; empty where it serves."""
        self._numbers = itertools.count(1)

    # ---- life

    def start(self) -> None:
        """Bring the server up and find out what it implements. Raises InfrastructureError."""
        if (short := self._ground.without_room()) is not None:
            raise short
        self._bring_up()
        self.probe()

    def probe(self) -> None:
        """Find out which messages the server does not implement, and whether a small piece of work succeeds on it."""
        self.missing = implemented(self._opened, self._attach, self._alive, self._numbers)
        self._works = True
        self._works = self.trouble() is None
        self._works = self._alive() and self._works
        self._sweep_probes()
        self._sweep()

    def _opened(self) -> Client:
        client = Client(self.server.connect(), reads_rerror=self.spec.reads_rerror, timeout=_ALIVE)
        client.version(self.spec.msize)
        return client

    def _attach(self, client: Client) -> int:
        fid = client.fid()
        client.attach(fid, self.server.aname, self.spec.uname.encode())
        return fid

    def _alive(self) -> bool:
        """Whether the server lives; a dead one is restarted."""
        works, self._works = self._works, False
        try:
            alive = self.trouble() is None
        finally:
            self._works = works
        if not alive:
            self.recover()
        return alive

    def _sweep_probes(self) -> None:
        """Remove the files of `probe`, also from the export of a server that is not ours. Raises OSError."""
        for number, kind in itertools.product(range(1, next(self._numbers)), ("probe", "health")):
            with contextlib.suppress(Undrivable):
                on_host(self.server, f"assay9-{kind}-{number}").remove()

    def _sweep(self) -> None:
        """Remove from the export of our own server what a case has made outside its directory. Raises OSError."""
        if self.server.pid() is not None and (export := self.server.export) is not None:
            for stray in os.listdir(export):
                HostDirectory(export / stray).remove()

    def connect(self) -> Link:
        """A new transport to the server. Raises InfrastructureError."""
        return self.server.connect()

    def recover(self) -> None:
        """Start the same server again after a crash or a hang."""
        self.server.stop()
        self._bring_up()

    def _bring_up(self) -> None:
        self.server.start()
        export = self.server.export
        # The server's mount namespace ends with the server: then the server has died.
        self._ground.keep([] if export is None or export.is_relative_to("/proc") else [export])

    def stop(self) -> None:
        """End the server; only its log stays."""
        self.server.stop()

    def versions(self) -> dict[str, Any]:
        """For the run's environment."""
        return {
            "target_version": f"{self.server.name} {self.server.version()}".strip(),
            "argv": self.server.argv(),
            **self.server.surroundings(),
        }

    def trouble(self) -> str | None:
        """Why the server has stopped serving, or None if it does a small piece of work from attach to remove."""
        if (death := self.server.death()) is not None:
            return death
        try:
            link = self.server.connect()
        except InfrastructureError as error:
            time.sleep(_DYING)  # its sockets and namespaces go before its status can be read
            return self.server.death() or str(error)
        client = Client(link, reads_rerror=True, timeout=_ALIVE)
        try:
            client.version(self.spec.msize)
            if self._works:
                serve(client, self._attach, b"assay9-health-%d" % next(self._numbers), self.missing)
        except (NoReply, HungUp) as error:
            time.sleep(_DYING)
            return self.server.death() or f"a new session is not served: {error}"
        except Finding as error:
            return f"a new session is not served as before the first case: {error}"
        finally:
            client.close()
        return None

    # ---- one case

    def run(self, case: Case, parameters: str, body: Callable[[Wire], None]) -> WireOutcome:
        """Run `body` on its own directory; a crash or a hang of the server is charged to it.

        Raises InfrastructureError if an earlier case left the server in a state in which no case can be judged.
        """
        self._must_serve()
        begun, mark = time.monotonic(), self.server.log_size()
        limit = case.seconds * self.patience * max(1.0, self.requests / _OFTEN)
        wire = Wire(self, f"{case.id.lower()}-{next(self._numbers)}", limit)
        raised: BaseException | None = None
        with collecting() as found:
            try:
                self._prepare(wire)
                body(wire)
            except Exception as error:  # noqa: BLE001 - every end of a case is judged by the caller
                raised = error
        raised = ended(found, raised)
        wire.close()
        raised = self._after(case, raised, mark, wire.hurt())
        try:
            with contextlib.suppress(Undrivable):
                wire.host.remove()
                self._sweep()
        except OSError as error:
            raised = (
                raised
                or self._ground_lost(case, error)
                or InfrastructureError(f"the case's directory cannot be removed: {error}", f"see {self.server.export}")
            )
        said = self.server.log(mark)[-4000:]
        return WireOutcome(raised, wire.crossed(), said, time.monotonic() - begun)

    def _prepare(self, wire: Wire) -> None:
        try:
            wire.host.remove()
            wire.host.make(0o777)
        except Undrivable:
            # There is no vantage outside: the directory is made through the server, as by a user.
            client = wire.connect()
            client.version(self.spec.msize)
            client.mkdir(wire.attach(client), wire.directory, 0o777)
            if Capability.SESSIONS not in self.capabilities:
                wire.release(client)

    def _ground_lost(self, case: Case, raised: BaseException | None) -> GroundLost | None:
        """The broken ground after a failed case, unless the server broke it; else None."""
        if isinstance(raised, Undrivable):
            return None
        # A confinement case asks the server to do exactly that: to remove the exported directory.
        host = self._ground.without_room() if case.family == "confinement" else self._ground.lost()
        lost = self.server.ground_lost(self._ground.memory) or host
        if lost is not None:
            lost.__cause__ = raised
        return lost

    def _after(self, case: Case, raised: BaseException | None, mark: int, hurt: str = "") -> BaseException | None:
        """The outcome of the case after a check of the server: a crash or a hang is charged to the case, and a possibly
        damaged server of ours is restarted, so no later case is charged.
        """
        trouble = self.trouble()
        if trouble is None and hurt:
            time.sleep(_DYING)
            trouble = self.server.death()
        if (raised is not None or trouble is not None) and (lost := self._ground_lost(case, raised)) is not None:
            if lost.restorable:
                self.recover()
            return lost
        if trouble is None:
            # hanging work may hold a lock that a later case needs
            if hurt not in ("", HUNG_UP) and self._restartable():
                self.recover()
            return raised
        tail = self.server.log(mark)[-600:].strip()
        self.recover()
        self._hurt_for_good = case.id
        if isinstance(raised, Undrivable) and self.server.argv() == []:
            return raised
        others = findings_of(raised)
        why = "" if raised is None or others else f"; {raised}"
        last = f"\nthe server's last output: {tail}" if tail else ""
        asked = "".join(f"; {one}" for one in others if isinstance(one, NoReply | HungUp))
        died = TargetDied(f"{trouble}{why}{asked}{last}", values={"how": trouble})
        return ended([died, *(one for one in others if not isinstance(one, NoReply | HungUp))], None)

    def _must_serve(self) -> None:
        since, self._hurt_for_good = self._hurt_for_good, ""
        if since and (still := self.trouble()) is not None:
            ours = self.server.argv() != []
            also = ", even after a restart" if ours else ""
            raise InfrastructureError(
                f"the server has not served since {since}{also}: {still}",
                f"see {since}" if ours else f"start the server again; leave {since} out with -k 'not {since}'",
            )

    def _restartable(self) -> bool:
        """Whether the suite started the server and a new one costs little."""
        return self.server.pid() is not None and self.patience == 1.0
