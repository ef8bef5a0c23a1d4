"""A wire case's view of a server (`Wire`): its directory on both sides, and any number of connections.

`conformance.run.session` runs the server itself. Rule of this module: it contains no requirement of the protocol; those
are in the cases.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast

import psutil
import pytest

from conformance.checks import report, require, require_equal
from conformance.errors import Finding, TargetDied, Undrivable
from conformance.raw import server
from conformance.raw.client import Pending
from conformance.raw.expectation import Expect
from conformance.raw.far_directory import on_host
from conformance.raw.findings import NeedsMessage, NoReply
from conformance.raw.health import as_unsupported
from conformance.raw.host_directory import HostDirectory
from conformance.raw.operations import Client
from conformance.transports.base import Capability, Link
from conformance.transports.socket import SocketLink
from conformance.vfs.trace import Crossed
from guests.host.waiting import happens
from protocol.constants import O_RDONLY, O_RDWR
from protocol.dirents import Dirent, decode_dirents
from protocol.fields import Qid
from protocol.registry import Message

R = TypeVar("R", bound=Message)

_PROMPT = 0.5
"""Seconds, twice, for a request that must be answered at once (`Wire.prompt`)."""
_PATIENCE = 20
"""How many times longer than another session's opening and first request a reply may take before it counts as lost."""
_SETTLE = 0.1
"""Seconds for requests that are unanswered at the end of a case."""


class Session(Client):
    """A client with a negotiated dialect and the case's directory attached as `root`."""

    root: int
    aname: bytes
    """The tree that was attached."""

    def walk_to(self, *names: bytes, start: int | None = None) -> int:
        """A new fid for the file at `names` from `root` (or `start`); all must exist."""
        newfid = self.fid()
        reply = self.walk(self.root if start is None else start, newfid, *names)
        require_equal(f"qids in Rwalk to {b'/'.join(names)!r}", len(reply.wqids), len(names), call="Twalk")
        return newfid

    def open(self, *names: bytes, flags: int = O_RDONLY) -> int:
        """A new fid, open on the file at `names`."""
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
        """Remove `name` from the case's directory as Linux does: by Tunlinkat, or by Tremove if the server does not
        implement that.
        """
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
    """One case's view of a server: its directory on both sides, and any number of connections."""

    def __init__(self, owner: server.Session, directory: str, seconds: float) -> None:
        self._owner = owner
        self._directory = directory
        self._clients: list[Client] = []
        self._session: Session | None = None
        self._decoy = False
        self._hurt = ""
        self._deadline = time.monotonic() + seconds
        self.spec = owner.spec
        self.features = owner.features
        self.requests = owner.requests
        """How often a case repeats what it is there to repeat; 0: as often as it says itself."""

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
        """The case's directory as the host sees it. Undrivable if nobody can see the export."""
        return on_host(self._owner.server, self._directory)

    @property
    def top(self) -> HostDirectory:
        """The exported directory itself."""
        return on_host(self._owner.server)

    def decoy(self) -> bytes:
        """The absolute path of a directory beside the export that a server must not touch, as bait.

        Undrivable for a server that the suite does not contain: what it does to an absolute path it does to its host.
        """
        if self._owner.server.pid() is None:
            raise Undrivable("an absolute path is sent only to servers that the suite contains")
        # The path for the server: its own directory is the same inside and outside its containment.
        decoy = self._owner.base.resolve() / "outside" / "decoy"
        if not self._decoy:
            self._decoy = True
            shutil.rmtree(decoy.parent, ignore_errors=True)  # left by an earlier case
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
        """A new connection without any message."""
        made = Client(self._link(), reads_rerror=self.spec.reads_rerror)
        self._keep(made)
        return made

    def judge_message(self, name: str) -> None:
        """Report a finding if the server does not implement that message. If it was refused as the target declares, the
        case ends (NeedsMessage) and is unsupported.
        """
        how = self._owner.missing.get(name)
        if how is None:
            return
        needs = NeedsMessage(name, how)
        if as_unsupported(self._owner.unsupported, needs) is not needs:
            raise needs
        seen = how.removeprefix("answered ")
        report(Finding(f"{name}: not implemented, {how}", "errno", {"call": name, "what": name, "seen": seen}))

    @property
    def missing(self) -> Mapping[str, str]:
        """The messages that the server does not implement, as found before the first case."""
        return self._owner.missing

    def session(self, msize: int | None = None) -> Session:
        """A new connection with a negotiated dialect (at most `msize`) and the case's directory attached."""
        made = Session(self._link(), reads_rerror=self.spec.reads_rerror)
        self._keep(made)
        made.version(msize or self.spec.msize)
        top = self.attach(made)
        made.root = made.walk_to(self.directory, start=top)
        made.aname = self.aname
        return made

    @contextlib.contextmanager
    def reading_only(self) -> Iterator[tuple[Session, HostDirectory]]:
        """A session with a further server of the same program whose export is read-only, and that export as the host
        sees it. Undrivable where the suite cannot ask the program for one; raises InfrastructureError."""
        place = self._owner.base / "read-only"
        server = self._owner.server.reading_only(place)
        if server is None:
            raise Undrivable("the suite starts no server with a read-only export here")
        place.mkdir()
        try:
            server.start()
            made = Session(server.connect(), reads_rerror=self.spec.reads_rerror)
            self._keep(made)
            made.version(self.spec.msize)
            made.root, made.aname = made.fid(), server.aname
            made.attach(made.root, server.aname, self.spec.uname.encode())
            yield made, on_host(server)
        finally:
            server.stop()
            shutil.rmtree(place, ignore_errors=True)

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
            raise Undrivable("this transport has one session only")
        return self._owner.connect()

    def release(self, client: Client) -> None:
        """Close a connection and forget it: on a transport with a single session another one can then be opened."""
        client.settle(_SETTLE)
        client.close()
        self._clients.remove(client)
        self._hurt = self._hurt or _left_behind(client)

    def _keep(self, client: Client) -> None:
        client.deadline = self._deadline
        client.missing = self._owner.missing
        self._clients.append(client)

    # ---- what a case may require of link and target

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the link can express."""
        return self._owner.capabilities

    def need(self, capability: Capability, why: str) -> None:
        """End the case as undrivable unless the link has `capability`."""
        if capability not in self._owner.capabilities:
            raise Undrivable(f"{capability.value}: {why}")

    def hang_up(self, client: Client) -> None:
        """End a connection from our side, like a client that dies."""
        if isinstance(client.link, SocketLink):
            client.link.close()
        else:
            raise Undrivable("hangup: this transport cannot be closed by itself")

    def prompt(self, pending: Pending[R], expect: Expect = None) -> R:
        """The reply to a request that must be answered at once, judged. NoReply means that it hangs, however busy this
        machine is: another session was served meanwhile, and the reply did not come in many times as long.
        """
        try:
            pending.wait(_PROMPT)
        except NoReply as hanging:
            took = self.served_beside()
            try:
                pending.wait(max(_PROMPT, _PATIENCE * took))
            except NoReply:
                call = type(pending.request).__name__
                raise NoReply(f"{hanging}; another session is served meanwhile", call) from None
        return pending.result(expect)

    def served_beside(self) -> float:
        """Open another session and use it; returns the seconds that it took: how quickly the server works on a machine
        as busy as this.
        """
        self.need(Capability.SESSIONS, "a second session must show that the server is not merely slow")
        begun = time.monotonic()
        other = self.session()
        other.getattr(other.root)
        return time.monotonic() - begun

    def still_serves(self) -> None:
        """A new session works: the server has survived. Raises TargetDied if it has not."""
        if Capability.SESSIONS in self._owner.capabilities:
            trouble = self._owner.trouble()
        else:  # a new session would end the case's own; one is tried at the case's end
            trouble = self._owner.server.death()
        if trouble:
            raise TargetDied(trouble, values={"how": trouble})

    # ---- the server as a process; None if the suite cannot inspect it

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
        """Repeat `measure` until it is below that, or the time is over; returns the last value."""
        seen: list[int | None] = []

        def settled() -> bool:
            seen[:] = [measure()]
            return seen[0] is None or seen[0] < below

        happens(settled, seconds, 0.05)
        return seen[0]

    # ---- the end of the case

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.settle(_SETTLE)
            self._hurt = self._hurt or _left_behind(client)
            with contextlib.suppress(OSError):
                client.close()

    def hurt(self) -> str:
        """Why the server may be damaged after the case; empty if nothing suggests it."""
        return self._hurt

    def transcript(self) -> list[str]:
        """What crossed, connection after connection."""
        lines = []
        for number, client in enumerate(self._clients):
            head = [f"-- connection {number + 1} ({client.link.name})"] if len(self._clients) > 1 else []
            lines += [*head, *client.transcript.lines()]
        return lines

    def crossed(self) -> Crossed:
        """The messages for the run record: counts of requests, on all connections."""
        counts: dict[str, int] = {}
        for client in self._clients:
            for name, number in client.transcript.counts.items():
                if name.startswith("T"):
                    counts[name] = counts.get(name, 0) + number
        return Crossed(tuple(self.transcript()[:400]), counts, lost=False)


HUNG_UP = "it closed a connection"
"""Of `Wire.hurt`: what alone is no sign that work hangs in the server."""


def _left_behind(client: Client) -> str:
    if client.unanswered:
        return "it left a request without a reply"
    if client.outstanding:
        return "a request was outstanding at the end of the case"
    return HUNG_UP if client.hung_up else ""


@pytest.fixture
def wire() -> Wire:
    """The server as a case sees it; replaced by the real one when the case is called."""
    return cast(Wire, None)
