"""The wire layer's fixture and session: a running server, a fresh directory and fresh connections per case.

`WireSession` is made once per worker: `start`, then `run` for each case, `recover` after a death (which `run`
does itself), `stop`. `Wire` is what a case sees. Rule of this module: it must not know a single requirement
of the protocol; those are in the cases.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import pytest

from conformance.case import Case
from conformance.checks import collecting, raise_all
from conformance.client import HungUp, NoReply, Pending
from conformance.errors import Finding, InfrastructureError, Undrivable
from conformance.expectation import OK, Expect
from conformance.ground import GroundLost, HostGround, served_place
from conformance.host import HostDirectory
from conformance.links.base import Capability, Link
from conformance.links.socket import SocketLink
from conformance.operations import Client
from conformance.servers import Server, make
from conformance.servers import spec as server_spec
from conformance.targets.spec import Target
from conformance.trace import Crossed
from protocol.constants import EOPNOTSUPP, O_RDONLY, O_RDWR
from protocol.dirents import Dirent, decode_dirents
from protocol.registry import Message

R = TypeVar("R", bound=Message)

_ALIVE = 3.0
"""Seconds within which a server must take a new session after a case."""
_PROMPT = 0.5
"""Seconds, twice, for what must be answered at once (`Wire.prompt`)."""
_SETTLE = 0.1
"""Seconds that requests have which a case has left unanswered at its end."""
_DYING = 0.4
"""Seconds that a process which hung up on us may still need to be dead."""


class Session(Client):
    """A client with a dialect agreed and the case's directory attached as `root`."""

    root: int

    def walk_to(self, *names: bytes, start: int | None = None) -> int:
        """A new fid for what `names` lead to from `root` (or `start`); all must exist."""
        newfid = self.fid()
        reply = self.walk(self.root if start is None else start, newfid, *names)
        if len(reply.wqids) != len(names):
            went = f"{len(reply.wqids)} of {len(names)} steps"
            raise Finding(f"Twalk went only {went} towards {b'/'.join(names)!r}")
        return newfid

    def open(self, *names: bytes, flags: int = O_RDONLY) -> int:
        """A new fid, open on what `names` lead to."""
        fid = self.walk_to(*names)
        self.lopen(fid, flags)
        return fid

    def create(self, name: bytes, data: bytes = b"", *, flags: int = O_RDWR, mode: int = 0o644) -> int:
        """A new fid, open on a new file `name` in the case's directory that holds `data`."""
        fid = self.walk_to()
        self.lcreate(fid, name, flags, mode)
        if data:
            written = self.write(fid, 0, data).count
            if written != len(data):
                raise Finding(f"Twrite took {written} of {len(data)} bytes")
        return fid

    def unlink(self, name: bytes) -> None:
        """Remove `name` from the case's directory as Linux does: Tunlinkat, and Tremove where that is unknown."""
        if self.send_unlinkat(self.root, name).errno({OK, EOPNOTSUPP}) == EOPNOTSUPP:
            self.remove(self.walk_to(name))

    def entries(self, fid: int, count: int | None = None) -> Iterator[Dirent]:
        """All entries of an open directory, one Treaddir after the other."""
        offset = 0
        while True:
            data = self.readdir(fid, offset, self.msize - 24 if count is None else count).data
            found = list(decode_dirents(data))
            if not found:
                return
            yield from found
            if found[-1].offset == offset:
                raise Finding(f"Treaddir makes no progress at offset {offset:#x}")
            offset = found[-1].offset


class Wire:
    """One case's view of a server: its directory on both sides, and as many connections as it wants."""

    def __init__(self, owner: WireSession, directory: str, seconds: float) -> None:
        self._owner = owner
        self._directory = directory
        self._clients: list[Client] = []
        self._session: Session | None = None
        self._decoy = False
        self._deadline = time.monotonic() + seconds
        self.spec = owner.spec
        self.features = owner.features

    # ---- the two sides

    @property
    def client(self) -> Session:
        """The case's main session."""
        if self._session is None:
            self._session = self.session()
        return self._session

    @property
    def root(self) -> int:
        """The case's directory as a fid of `client`. Clone it before changing it."""
        return self.client.root

    @property
    def host(self) -> HostDirectory:
        """The case's directory as the host sees it. Undrivable where the export is not on this host."""
        return HostDirectory(self._top() / self._directory)

    @property
    def top(self) -> HostDirectory:
        """The exported directory itself."""
        return HostDirectory(self._top())

    def _top(self) -> Path:
        if self._owner.server.export is None:
            raise Undrivable("the exported directory is not on this host: say which it is with --export")
        return self._owner.server.export

    def decoy(self) -> bytes:
        """The absolute path of a directory beside the export that a server must not touch, and may be tempted to.

        Undrivable where the server is not one of ours, contained: what it does to an absolute path it does to the
        host it runs on.
        """
        if self._owner.server.pid() is None:
            raise Undrivable("an absolute path is sent only to servers that the suite has contained itself")
        # As the server names it: its own directory is the same inside and outside of its containment.
        decoy = self._owner.base.resolve() / "outside" / "decoy"
        if not self._decoy:
            self._decoy = True
            shutil.rmtree(decoy.parent, ignore_errors=True)  # what an earlier case got done to it
            decoy.mkdir(parents=True)
            (decoy / "kept").write_bytes(b"untouched")
        return os.fsencode(decoy)

    @property
    def directory(self) -> bytes:
        """The name of the case's directory in the export."""
        return self._directory.encode()

    @property
    def aname(self) -> bytes:
        """What Tattach names."""
        return self._owner.server.aname

    # ---- connections

    def connect(self) -> Client:
        """A new connection on which nothing has been said."""
        made = Client(self._link(), reads_rerror=self.spec.reads_rerror)
        self._keep(made)
        return made

    def session(self, msize: int | None = None) -> Session:
        """A new connection, dialect agreed (at most `msize`) and the case's directory attached."""
        made = Session(self._link(), reads_rerror=self.spec.reads_rerror)
        self._keep(made)
        made.version(msize or self.spec.msize)
        top = self.attach(made)
        made.root = made.walk_to(self.directory, start=top)
        return made

    def attach(self, client: Client) -> int:
        """A new fid of `client` for the root of the export."""
        fid = client.fid()
        client.attach(fid, self.aname, self.spec.uname.encode())
        return fid

    def _link(self) -> Link:
        if self._clients and Capability.SESSIONS not in self._owner.capabilities:
            raise Undrivable("this link has one session only")
        return self._owner.connect()

    def release(self, client: Client) -> None:
        """Give a connection up and forget it: on a link with one session another one can be had then."""
        client.close()
        self._clients.remove(client)

    def _keep(self, client: Client) -> None:
        client.deadline = self._deadline
        self._clients.append(client)

    # ---- what a case may ask of link and target

    def need(self, capability: Capability, why: str) -> None:
        """End the case as undrivable unless the link has `capability`."""
        if capability not in self._owner.capabilities:
            raise Undrivable(f"{capability.value}: {why}")

    def hang_up(self, client: Client) -> None:
        """End a connection from our side, as a client that dies."""
        if isinstance(client.link, SocketLink):
            client.link.close()
        else:
            raise Undrivable("hangup: this link cannot be given up by itself")

    def prompt(self, pending: Pending[R], expect: Expect = None) -> R:
        """The reply to what must be answered at once, judged. A NoReply means that it hangs, however busy this machine
        is: meanwhile another session was opened and served."""
        try:
            pending.wait(_PROMPT)
        except NoReply as hanging:
            self.need(Capability.SESSIONS, "a second session must show that the server is not merely slow")
            other = self.session()
            other.getattr(other.root)
            try:
                pending.wait(_PROMPT)
            except NoReply:
                raise NoReply(f"{hanging}; another session is served meanwhile") from None
        return pending.result(expect)

    def still_serves(self) -> None:
        """A new session works: the server has survived. Raises Finding when it has not."""
        if Capability.SESSIONS in self._owner.capabilities:
            trouble = self._owner.trouble()
        else:  # a new session would end the case's own; the next one is tried at the case's end
            trouble = self._owner.server.death()
        if trouble:
            raise Finding(trouble)

    # ---- the server as a process; None where it is not ours to look at

    def memory(self) -> int | None:
        """The resident memory of the server's process in bytes."""
        process = self._process()
        return None if process is None else int(process.memory_info().rss)

    def descriptors(self) -> int | None:
        """How many files the server's process has open."""
        process = self._process()
        return None if process is None else int(process.num_fds())

    def _process(self) -> psutil.Process | None:
        pid = self._owner.server.pid()
        try:
            return None if pid is None else psutil.Process(pid)
        except psutil.Error:
            return None

    def settled(self, measure: Callable[[], int | None], below: int, seconds: float = 2.0) -> int | None:
        """`measure` again and again until it is below that, or the time is over; what it was last."""
        deadline = time.monotonic() + seconds
        while (seen := measure()) is not None and seen >= below and time.monotonic() < deadline:
            time.sleep(0.05)
        return seen

    # ---- the end of the case

    def close(self) -> None:
        """Give all connections up."""
        for client in self._clients:
            client.settle(_SETTLE)
            with contextlib.suppress(OSError):
                client.close()

    def transcript(self) -> list[str]:
        """What crossed, connection after connection."""
        lines = []
        for number, client in enumerate(self._clients):
            head = [f"-- connection {number + 1} ({client.link.name})"] if len(self._clients) > 1 else []
            lines += [*head, *client.transcript.lines()]
        return lines

    def answered(self) -> frozenset[str]:
        """The names of all replies that came, on all connections."""
        return frozenset(name for client in self._clients for name in client.transcript.counts if name[0] == "R")

    def crossed(self) -> Crossed:
        """The messages as the run record keeps them: requests counted, on all connections."""
        counts: dict[str, int] = {}
        for client in self._clients:
            for name, number in client.transcript.counts.items():
                if name.startswith("T"):
                    counts[name] = counts.get(name, 0) + number
        return Crossed(tuple(self.transcript()[:400]), counts, lost=False)


@dataclass(frozen=True, slots=True)
class WireOutcome:
    """What one case left: what it raised (None: it passed), what crossed, what the server's log said."""

    raised: BaseException | None
    crossed: Crossed
    log: str
    seconds: float
    answered: frozenset[str] = frozenset()
    """The replies that came, by name: Rwalk, Rlerror, ..."""


class WireSession:
    """One worker's server."""

    patience: float = 1.0
    """How many times longer than elsewhere a case may take, where each step crosses into a guest."""

    def __init__(self, target: Target, run_dir: Path, options: dict[str, Any] | None = None) -> None:
        self.target = target
        self.spec = server_spec.parse(target.server).for_user(options or {})
        self.features = frozenset(target.profile.features)
        self.base = Path(tempfile.mkdtemp(prefix="server-", dir=run_dir))
        """The server's own directory: its export, its log, and beside the export what must not be reached."""
        self.server: Server = make(self.spec, self.base)
        self.capabilities = self.server.capabilities
        self.patience = getattr(self.server, "patience", 1.0)
        self._ground = HostGround([served_place(self.base)])
        self._log_seen = 0
        self._numbers = itertools.count(1)

    # ---- life

    def start(self) -> None:
        """Bring the server up. Raises InfrastructureError."""
        if (short := self._ground.without_room()) is not None:
            raise short
        self.server.start()
        self._ground.keep([self.server.export] if self.server.export is not None else [])

    def connect(self) -> Link:
        """A new road to the server. Raises InfrastructureError."""
        return self.server.connect()

    def recover(self) -> None:
        """After a death or a hang: the same server, started anew."""
        self.server.stop()
        self.server.start()
        self._ground.keep([self.server.export] if self.server.export is not None else [])

    def stop(self) -> None:
        """End the server; nothing stays behind but its log."""
        self.server.stop()

    def versions(self) -> dict[str, Any]:
        """For the run's environment."""
        return {
            "target_version": f"{self.server.name} {self.server.version()}".strip(),
            "argv": self.server.argv(),
        }

    def logs(self) -> str:
        """What the server has said since `logs` was last asked."""
        said = self.server.log()
        new = said[self._log_seen :] if len(said) >= self._log_seen else said
        self._log_seen = len(said)
        return new

    def trouble(self) -> str | None:
        """Why the server no longer serves, or None when a new session is taken as it should."""
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
        except (NoReply, HungUp) as error:
            time.sleep(_DYING)
            return self.server.death() or f"a new session gets no answer: {error}"
        except Finding as error:
            return f"a new session gets a wrong answer: {error}"
        finally:
            client.close()
        return None

    # ---- one case

    def run(self, case: Case, parameters: str, body: Callable[[Wire], None]) -> WireOutcome:
        """Run `body` on a directory of its own; a server that it kills or hangs is charged to it."""
        begun = time.monotonic()
        self.logs()
        wire = Wire(self, f"{case.id.lower()}-{next(self._numbers)}", case.seconds * self.patience)
        raised: BaseException | None = None
        with collecting() as found:
            try:
                self._prepare(wire)
                body(wire)
            except Exception as error:  # noqa: BLE001 - every end of a case is judged by the caller
                raised = error
        try:
            raise_all(found, raised)
        except Exception as error:  # noqa: BLE001 - as above
            raised = error
        wire.close()
        raised = self._after(case, raised)
        try:
            self._tidy(wire)
        except OSError as error:
            raised = raised or self._ground_lost(case, error) or InfrastructureError(
                f"the case's directory cannot be removed: {error}", f"look at {self.server.export}")  # fmt: skip
        return WireOutcome(raised, wire.crossed(), self.logs()[-4000:], time.monotonic() - begun, wire.answered())

    def _tidy(self, wire: Wire) -> None:
        """Remove what the case has made. Raises OSError."""
        with contextlib.suppress(Undrivable):
            wire.host.remove()
            if self.server.pid() is not None:
                # Our own server, our own export: what a case has made outside its directory goes, too.
                for stray in wire.top.names():
                    HostDirectory(wire.top.root / os.fsdecode(stray)).remove()

    def _prepare(self, wire: Wire) -> None:
        try:
            wire.host.remove()
            wire.host.root.mkdir()
            wire.host.root.chmod(0o777)
        except Undrivable:
            # Nobody can look from outside: the directory is made through the server, as a user would.
            client = wire.connect()
            client.version(self.spec.msize)
            client.mkdir(wire.attach(client), wire.directory, 0o777)
            if Capability.SESSIONS not in self.capabilities:
                wire.release(client)

    def _ground_lost(self, case: Case, raised: BaseException | None) -> GroundLost | None:
        """What the suite stands on and is broken by no fault of the server, after a case that failed; else None."""
        if isinstance(raised, Undrivable):
            return None
        # A case of confinement asks the server for just that: to take the exported directory away.
        host = self._ground.without_room() if case.family == "confinement" else self._ground.lost()
        lost = self.server.ground_lost(self._ground.memory) or host
        if lost is not None:
            lost.__cause__ = raised
        return lost

    def _after(self, case: Case, raised: BaseException | None) -> BaseException | None:
        trouble = self.trouble()
        if trouble is None and isinstance(raised, HungUp):
            time.sleep(_DYING)
            trouble = self.server.death()
        if (raised is not None or trouble is not None) and (lost := self._ground_lost(case, raised)) is not None:
            if lost.restorable:
                self.recover()
            return lost
        if trouble is None:
            return raised
        tail = self.server.log()[-600:].strip()
        self.recover()
        if isinstance(raised, Undrivable) and self.server.argv() == []:
            return raised
        told = f"{trouble}" + (f"; {raised}" if raised is not None else "")
        return Finding(told + (f"\nthe server's last words: {tail}" if tail else ""))


@pytest.fixture
def wire() -> Wire:
    """The server as a case sees it; the real one takes this one's place when the case is called."""
    return cast(Wire, None)


__all__ = ["Session", "Wire", "WireOutcome", "WireSession", "wire"]
