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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import pytest

from conformance.case import Case
from conformance.checks import collecting, findings_of, raise_all, report, require, require_equal
from conformance.client import HungUp, NeedsMessage, NoReply, Pending
from conformance.errors import Finding, InfrastructureError, TargetDied, Undrivable, Unsupported
from conformance.expectation import Expect
from conformance.ground import GroundLost, HostGround, served_place
from conformance.host import HostDirectory
from conformance.links.base import Capability, Link
from conformance.links.socket import SocketLink
from conformance.operations import Client
from conformance.profiles.model import Lack
from conformance.servers import Server, make
from conformance.servers import spec as server_spec
from conformance.targets.spec import Target
from conformance.trace import Crossed
from conformance.wire_health import implemented, serve
from protocol.constants import O_RDONLY, O_RDWR
from protocol.dirents import Dirent, decode_dirents
from protocol.fields import Qid
from protocol.registry import Message

R = TypeVar("R", bound=Message)

_ALIVE = 10.0
"""Seconds within which each request of the work that follows a case must be answered."""
_PROMPT = 0.5
"""Seconds, twice, for what must be answered at once (`Wire.prompt`)."""
_SETTLE = 0.1
"""Seconds that requests have which a case has left unanswered at its end."""
_DYING = 0.4
"""Seconds that a process which hung up on us may still need to be dead."""


class Session(Client):
    """A client with a dialect agreed and the case's directory attached as `root`."""

    root: int
    aname: bytes
    """The tree that was attached."""

    def walk_to(self, *names: bytes, start: int | None = None) -> int:
        """A new fid for what `names` lead to from `root` (or `start`); all must exist."""
        newfid = self.fid()
        reply = self.walk(self.root if start is None else start, newfid, *names)
        require_equal(f"qids in Rwalk to {b'/'.join(names)!r}", len(reply.wqids), len(names), call="Twalk")
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
            require_equal(f"count in Rwrite to the new file {name!r}", written, len(data), call="Twrite")
        return fid

    def unlink(self, name: bytes) -> None:
        """Remove `name` from the case's directory as Linux does: by Tunlinkat, or where the server does not implement
        that by Tremove."""
        if "Tunlinkat" in self.missing:
            self.remove(self.walk_to(name))
        else:
            self.unlinkat(self.root, name)

    def entries(self, fid: int, count: int | None = None) -> Iterator[Dirent]:
        """All entries of an open directory, one Treaddir after the other."""
        offset = 0
        while True:
            data = self.readdir(fid, offset, self.msize - 24 if count is None else count).data
            found = list(decode_dirents(data))
            if not found:
                return
            yield from found
            forward = f"the last entry of Rreaddir has another offset than the {offset:#x} that was asked for"
            require(forward, found[-1].offset != offset, code="names", call="Treaddir")
            offset = found[-1].offset


class Wire:
    """One case's view of a server: its directory on both sides, and as many connections as it wants."""

    def __init__(self, owner: WireSession, directory: str, seconds: float) -> None:
        self._owner = owner
        self._directory = directory
        self._clients: list[Client] = []
        self._session: Session | None = None
        self._decoy = False
        self._hurt = ""
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

    def judge_message(self, name: str) -> None:
        """Report a finding when the server does not implement that message; where the target declares it to lack the
        message and it was answered as declared, the case ends (NeedsMessage) and is unsupported."""
        how = self._owner.missing.get(name)
        if how is None:
            return
        needs = NeedsMessage(name, how)
        if lacking(self._owner.target.profile.lacks, needs) is not needs:
            raise needs
        seen = how.removeprefix("answered ")
        report(Finding(f"{name}: not implemented, {how}", "errno", {"call": name, "what": name, "seen": seen}))

    @property
    def missing(self) -> Mapping[str, str]:
        """The messages that the server does not implement, as was found before the first case."""
        return self._owner.missing

    def session(self, msize: int | None = None) -> Session:
        """A new connection, dialect agreed (at most `msize`) and the case's directory attached."""
        made = Session(self._link(), reads_rerror=self.spec.reads_rerror)
        self._keep(made)
        made.version(msize or self.spec.msize)
        top = self.attach(made)
        made.root = made.walk_to(self.directory, start=top)
        made.aname = self.aname
        return made

    def attach(self, client: Client) -> int:
        """A new fid of `client` for the root of the export."""
        fid = client.fid()
        self.attach_to(client, fid)
        return fid

    def attach_to(self, client: Client, fid: int) -> Qid:
        """Attach the root of the export to that fid; its qid."""
        return client.attach(fid, self.aname, self.spec.uname.encode()).qid

    def _link(self) -> Link:
        if self._clients and Capability.SESSIONS not in self._owner.capabilities:
            raise Undrivable("this link has one session only")
        return self._owner.connect()

    def release(self, client: Client) -> None:
        """Give a connection up and forget it: on a link with one session another one can be had then."""
        client.settle(_SETTLE)
        client.close()
        self._clients.remove(client)
        self._hurt = self._hurt or _left_behind(client)

    def _keep(self, client: Client) -> None:
        client.deadline = self._deadline
        client.missing = self._owner.missing
        self._clients.append(client)

    # ---- what a case may ask of link and target

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the link can express."""
        return self._owner.capabilities

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
                call = type(pending.request).__name__
                raise NoReply(f"{hanging}; another session is served meanwhile", call) from None
        return pending.result(expect)

    def still_serves(self) -> None:
        """A new session works: the server has survived. Raises TargetDied when it has not."""
        if Capability.SESSIONS in self._owner.capabilities:
            trouble = self._owner.trouble()
        else:  # a new session would end the case's own; the next one is tried at the case's end
            trouble = self._owner.server.death()
        if trouble:
            raise TargetDied(trouble, values={"how": trouble})

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

    def settled(self, measure: Callable[[], int | None], below: int, seconds: float = 10.0) -> int | None:
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
            self._hurt = self._hurt or _left_behind(client)
            with contextlib.suppress(OSError):
                client.close()

    def hurt(self) -> str:
        """Why the server may not be what it was before the case, once that is closed; empty where nothing says so."""
        return self._hurt

    def transcript(self) -> list[str]:
        """What crossed, connection after connection."""
        lines = []
        for number, client in enumerate(self._clients):
            head = [f"-- connection {number + 1} ({client.link.name})"] if len(self._clients) > 1 else []
            lines += [*head, *client.transcript.lines()]
        return lines

    def crossed(self) -> Crossed:
        """The messages as the run record keeps them: requests counted, on all connections."""
        counts: dict[str, int] = {}
        for client in self._clients:
            for name, number in client.transcript.counts.items():
                if name.startswith("T"):
                    counts[name] = counts.get(name, 0) + number
        return Crossed(tuple(self.transcript()[:400]), counts, lost=False)


_HUNG_UP = "it gave up a connection"


def _left_behind(client: Client) -> str:
    if client.unanswered:
        return "it left a request without a reply"
    if client.outstanding:
        return "a request was outstanding at the end of the case"
    return _HUNG_UP if client.hung_up else ""


@dataclass(frozen=True, slots=True)
class WireOutcome:
    """What one case left: what it raised (None: it passed), what crossed, what the server's log said."""

    raised: BaseException | None
    crossed: Crossed
    log: str
    seconds: float


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
        self.missing: dict[str, str] = {}
        """The messages that the server does not implement, and how it answered them."""
        self._works = False
        """Whether the server could do a small piece of work from attach to remove before the first case."""
        self._numbers = itertools.count(1)

    # ---- life

    def start(self) -> None:
        """Bring the server up and learn what it implements. Raises InfrastructureError."""
        if (short := self._ground.without_room()) is not None:
            raise short
        self.server.start()
        export = self.server.export
        # What lies in the mount namespace of the server goes with it: then it is the server that has died.
        self._ground.keep([] if export is None or export.is_relative_to("/proc") else [export])
        self.probe()

    def probe(self) -> None:
        """Learn which messages the server does not implement, and whether a small piece of work succeeds on it."""
        self.missing = implemented(self._opened, self._attach, self._alive, self._numbers)
        self._works = True
        self._works = self.trouble() is None
        self._works = self._alive() and self._works
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
        """Whether the server lives; one that does not is started anew."""
        works, self._works = self._works, False
        try:
            alive = self.trouble() is None
        finally:
            self._works = works
        if not alive:
            self.recover()
        return alive

    def _sweep(self) -> None:
        """Remove from the export of our own server what a case has made outside its directory. Raises OSError."""
        if self.server.pid() is not None and (export := self.server.export) is not None:
            for stray in os.listdir(export):
                HostDirectory(export / stray).remove()

    def connect(self) -> Link:
        """A new road to the server. Raises InfrastructureError."""
        return self.server.connect()

    def recover(self) -> None:
        """After a death or a hang: the same server, started anew."""
        self.server.stop()
        self.server.start()
        export = self.server.export
        # What lies in the mount namespace of the server goes with it: then it is the server that has died.
        self._ground.keep([] if export is None or export.is_relative_to("/proc") else [export])

    def stop(self) -> None:
        """End the server; nothing stays behind but its log."""
        self.server.stop()

    def versions(self) -> dict[str, Any]:
        """For the run's environment."""
        return {
            "target_version": f"{self.server.name} {self.server.version()}".strip(),
            "argv": self.server.argv(),
        }

    def trouble(self) -> str | None:
        """Why the server no longer serves, or None when it does a small piece of work from attach to remove."""
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
            return self.server.death() or f"a new session gets no answer: {error}"
        except Finding as error:
            return f"a new session is not served as before the first case: {error}"
        finally:
            client.close()
        return None

    # ---- one case

    def run(self, case: Case, parameters: str, body: Callable[[Wire], None]) -> WireOutcome:
        """Run `body` on a directory of its own; a server that it kills or hangs is charged to it."""
        begun, mark = time.monotonic(), self.server.log_size()
        wire = Wire(self, f"{case.id.lower()}-{next(self._numbers)}", case.seconds * self.patience)
        raised: BaseException | None = None
        with collecting() as found:
            try:
                self._prepare(wire)
                body(wire)
            except Exception as error:  # noqa: BLE001 - every end of a case is judged by the caller
                raised = error
        raised = whole(found, raised)
        wire.close()
        raised = self._after(case, raised, mark, wire.hurt())
        try:
            with contextlib.suppress(Undrivable):
                wire.host.remove()
                self._sweep()
        except OSError as error:
            raised = raised or self._ground_lost(case, error) or InfrastructureError(
                f"the case's directory cannot be removed: {error}", f"look at {self.server.export}")  # fmt: skip
        said = self.server.log(mark)[-4000:]
        return WireOutcome(raised, wire.crossed(), said, time.monotonic() - begun)

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

    def _after(
        self, case: Case, raised: BaseException | None, mark: int, hurt: str = ""
    ) -> BaseException | None:
        """What the case comes to, once the server has been looked at: one that it killed or hung is charged to it, and
        one that it may have hurt is started anew where that is ours to do, so that no later case is charged."""
        trouble = self.trouble()
        if trouble is None and hurt:
            time.sleep(_DYING)
            trouble = self.server.death()
        if (raised is not None or trouble is not None) and (lost := self._ground_lost(case, raised)) is not None:
            if lost.restorable:
                self.recover()
            return lost
        if trouble is None:
            if hurt not in ("", _HUNG_UP) and self._restartable():  # work that hangs may hold what a later case needs
                self.recover()
            return raised
        tail = self.server.log(mark)[-600:].strip()
        self.recover()
        if isinstance(raised, Undrivable) and self.server.argv() == []:
            return raised
        others = findings_of(raised)
        why = "" if raised is None or others else f"; {raised}"
        last = f"\nthe server's last words: {tail}" if tail else ""
        asked = "".join(f"; {one}" for one in others if isinstance(one, NoReply | HungUp))
        died = TargetDied(f"{trouble}{why}{asked}{last}", values={"how": trouble})
        return whole([died, *(one for one in others if not isinstance(one, NoReply | HungUp))], None)

    def _restartable(self) -> bool:
        """Whether the server is ours and a new one costs little."""
        return self.server.pid() is not None and self.patience == 1.0


def lacking(lacks: Sequence[Lack], raised: BaseException | None) -> BaseException | None:
    """`raised`, or Unsupported in its place: the case needs a message that the target declares to lack
    (`feature = "Trenameat"`), and the server answered it as declared. No other failure is excused by a lack."""
    if isinstance(raised, NeedsMessage):
        for lack in lacks:
            if lack.feature == raised.message and raised.how in {f"answered {errno}" for errno in lack.errno}:
                return Unsupported(f"{lack.feature}: {lack.reason} ({raised.how})")
    return raised


def whole(found: list[Finding], last: BaseException | None) -> BaseException | None:
    """What a case came to, as one exception: see `conformance.checks.raise_all`."""
    try:
        raise_all(found, last)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is handed on
        return error
    return None


@pytest.fixture
def wire() -> Wire:
    """The server as a case sees it; the real one takes this one's place when the case is called."""
    return cast(Wire, None)


__all__ = ["Session", "Wire", "WireOutcome", "WireSession", "wire"]
