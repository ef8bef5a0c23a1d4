"""Random traffic, valid and invalid, against its own server process, and a check that the server releases everything.

    python -m tests.reference_server.traffic --seconds 7200 --seed 1

The requests depend only on the seed (and, in names that point at the decoy, on the folder's name), not on time or
replies, so a run can be repeated.  After every spell of a given number of bursts, all connections are closed and the
server is inspected from outside.  Descriptors and threads must be as before, the tree beside the export must be
unchanged, and memory must not grow from spell to spell.  The server is contained: it can write only the folder of the
run.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from conformance.sut.parts.process import ServerProcess
from protocol import codec
from protocol import constants as c
from protocol import messages as m
from protocol.fields import Kind
from protocol.registry import Message
from tests.waiting import eventually

NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
STRANGE = [b"", b".", b"..", b"/", b"a/b", b"../x", b"x\0y", b"y" * 255, b"z" * 256, b"\xff\xfe", b"../beside/a"]
FIDS = 12
ODD = [0, 1, 7, 24, 4096, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
REQUESTS = [cls for cls in m.BY_TYPE.values() if not cls.type % 2]
CLIENTS = 4
SECRET = b"what lies beside the export"
HUNG = 600.0
"""Seconds after which a server that accepts no requests or keeps a resource counts as hung. The limit is long, because
on a machine with forty processes ahead of it, a server at nice 15 accepted nothing for a minute."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Look(NamedTuple):
    """The server as seen from outside."""

    descriptors: int
    threads: int
    kilobytes: int


def look(pid: int) -> Look:
    """Inspect the server now."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Look(len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), int(status["VmRSS"].split()[0]))


def processor_time(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Generator:
    """Makes the frames of one connection."""

    def __init__(self, seed: str, decoy: bytes) -> None:
        self._random = random.Random(seed)
        self._strange = [*STRANGE, decoy + b"/a"]
        self._targets = [b"a", b"..", b"b/c", b"../beside", decoy, decoy + b"/a", b"/proc/self/cwd"]
        self._tag = 0
        self.made = 0
        """Number of frames in all bursts."""
        self._folders, self._files, self._others = [0], list[int](), list[int]()
        self.spoilt = False
        """Whether a frame had a size that makes the server wait for bytes or close the connection."""

    def opening(self) -> list[bytes]:
        """Tversion and Tattach, as a client begins."""
        self._folders, self._files, self._others = [0], [], []
        msize = self._random.choice([4096, 8192, 65536])
        attach = m.Tattach(0, 0, c.NOFID, b"", b"", self._random.choice([0, 0, 1000]))
        return [codec.frame(m.Tversion(c.NOTAG, msize, b"9P2000.L")), codec.frame(attach)]

    def burst(self) -> bytes:
        """Some requests, to be sent together."""
        frames = self.frames()
        self.made += len(frames)
        return b"".join(frames)

    def frames(self) -> list[bytes]:
        """Some requests, one frame each."""
        return [frame for _ in range(self._random.choice([1, 2, 5, 20, 50])) for frame in self._some()]

    def _some(self) -> list[bytes]:
        roll = self._random.random()
        if roll < 0.005:
            return self.opening()
        if roll < 0.1:
            return self._renewed()
        if roll < 0.85:
            return [codec.frame(self._likely())]
        if roll < 0.95:
            return [codec.frame(self._arbitrary())]
        return [self._broken()]

    def _likely(self) -> Message:
        """A request that a real client could send, on few fids and names, so that much of it succeeds."""
        pick, name, tag = self._random.choice, self._name, self._next_tag
        fid, file, new, folder, other = self._fid, self._file, self._new, self._folder, self._other
        size = self._random.randrange
        kinds = [c.S_IFIFO, c.S_IFSOCK, c.S_IFREG, c.S_IFCHR]
        offset, mode = size(100_000), self._random.choice([0o644, 0o600, 0o4755, 0o777])
        likely: list[Callable[[], Message]] = [
            lambda: m.Tattach(tag(), 0, c.NOFID, b"", b"", pick([0, 0, 1000])),
            lambda: m.Twalk(tag(), 0, self._cloned(), ()),
            lambda: m.Twalk(tag(), 0, new(), (name(),)),
            lambda: m.Twalk(tag(), fid(), new(), tuple(name() for _ in range(size(4)))),
            lambda: m.Tclunk(tag(), self._gone()),
            lambda: m.Tlopen(tag(), other(), pick([0, 1, 2, c.O_RDWR | c.O_TRUNC, c.O_APPEND, c.O_SYNC])),
            lambda: m.Tlcreate(tag(), self._made(), name(), c.O_RDWR | pick([0, 0, c.O_EXCL, c.O_SYNC]), mode, 0),
            lambda: m.Tread(tag(), file(), offset, size(9000)),
            lambda: m.Twrite(tag(), file(), offset, self._random.randbytes(size(3000))),
            lambda: m.Tfsync(tag(), file(), size(2)),
            lambda: m.Treaddir(tag(), fid(), pick([0, 0, 1, offset]), size(5000)),
            lambda: m.Tmkdir(tag(), folder(), name(), 0o755, 0),
            lambda: m.Tstatfs(tag(), fid()),
            lambda: m.Tgetattr(tag(), fid(), c.GETATTR_ALL),
            lambda: m.Tsetattr(tag(), fid(), size(512), mode, 1000, 1000, offset, 1, 2, 3, 4),
            lambda: m.Tsymlink(tag(), folder(), name(), pick(self._targets), 0),
            lambda: m.Treadlink(tag(), fid()),
            lambda: m.Tlink(tag(), folder(), fid(), name()),
            lambda: m.Tmknod(tag(), folder(), name(), pick(kinds) | mode, 1, 3, 0),
            lambda: m.Trename(tag(), fid(), folder(), name()),
            lambda: m.Trenameat(tag(), folder(), name(), folder(), name()),
            lambda: m.Tunlinkat(tag(), folder(), name(), pick([0, c.AT_REMOVEDIR])),
            lambda: m.Tremove(tag(), self._gone()),
            lambda: m.Txattrwalk(tag(), fid(), new(), pick([b"", b"user.a", b"user.b"])),
            lambda: m.Txattrcreate(tag(), other(), pick([b"user.a", b"user.b"]), size(50), pick([0, 1, 2])),
            lambda: m.Tlock(tag(), file(), size(3), size(2), offset, pick([0, 10]), pick([1, 2]), b"me"),
            lambda: m.Tgetlock(tag(), file(), size(2), 0, 0, pick([1, 2]), b"me"),
            lambda: m.Tflush(tag(), size(100)),
        ]
        return pick(likely)()

    # The generator guesses the file of each fid from the requests, never from the replies.

    def _renewed(self) -> list[bytes]:
        """Frames that clunk a fid, whatever it was, and bind it to the root, a file, or an open file or directory."""
        number, tag, pick = self._random.randrange(1, FIDS), self._next_tag, self._random.choice
        for known in (self._folders, self._files, self._others):
            if number in known:
                known.remove(number)
        requests: list[Message] = [m.Tclunk(tag(), number), m.Twalk(tag(), 0, number, ())]
        if self._random.random() < 0.3:  # the root's fid may be gone, too
            requests.insert(0, m.Tattach(tag(), 0, c.NOFID, b"", b"", 0))
        known = pick([self._folders, self._files, self._files, self._others])
        known.append(number)
        if known is self._files:
            flags = pick([c.O_RDWR, c.O_RDWR, c.O_RDWR | c.O_TRUNC, c.O_WRONLY | c.O_APPEND])
            requests.append(m.Tlcreate(tag(), number, self._name(), flags, 0o644, 0))
        elif known is self._others:
            requests += [m.Twalk(tag(), number, number, (self._name(),)), m.Tlopen(tag(), number, c.O_RDONLY)]
        return [codec.frame(request) for request in requests]

    def _fid(self) -> int:
        """Any fid that may exist, or one that does not."""
        if self._random.random() < 0.03:
            return self._random.choice(ODD[:9])
        return self._random.choice([*self._folders, *self._files, *self._others])

    def _folder(self) -> int:
        return self._random.choice(self._folders) if self._random.random() < 0.9 else self._fid()

    def _file(self) -> int:
        return self._random.choice(self._files) if self._files and self._random.random() < 0.9 else self._fid()

    def _other(self) -> int:
        return self._random.choice(self._others) if self._others and self._random.random() < 0.9 else self._fid()

    def _new(self) -> int:
        number = self._random.randrange(FIDS)
        known = (*self._folders, *self._files, *self._others)
        if number not in known and self._random.random() < 0.5:
            self._others.append(number)
        return number

    def _cloned(self) -> int:
        """A new fid for the root."""
        number = self._random.randrange(FIDS)
        if number not in (*self._folders, *self._files, *self._others):
            self._folders.append(number)
        return number

    def _made(self) -> int:
        """A directory's fid that becomes a file's."""
        number = self._random.choice(self._folders)
        if number:
            self._folders.remove(number)
            self._files.append(number)
        return number

    def _gone(self) -> int:
        """A fid for a request that ends it; seldom the root's."""
        number = self._random.choice([*self._folders, *self._files, *self._others])
        if number == 0 and self._random.random() < 0.95:
            return FIDS
        for known in (self._folders, self._files, self._others):
            if number and number in known:
                known.remove(number)
        return number

    def _arbitrary(self) -> Message:
        """Any request with any values, mostly unusual ones."""
        cls = self._random.choice(REQUESTS)
        if cls is m.Tversion and self._random.random() < 0.98:
            cls = m.Tgetattr
        return cls(self._next_tag(), *(self._value(field.kind) for field in cls.fields))

    def _value(self, kind: Kind) -> object:
        if kind is Kind.STRING:
            return self._name()
        if kind is Kind.STRINGS:
            return tuple(self._name() for _ in range(self._random.choice([0, 1, 2, 16, 17])))
        if kind is Kind.DATA:
            return self._random.randbytes(self._random.choice([0, 1, 3000]))
        bits = {Kind.U8: 8, Kind.U16: 16, Kind.U32: 32, Kind.U64: 64}[kind]
        value = self._random.choice([*ODD, self._random.randrange(FIDS), self._random.getrandbits(bits)])
        return value & ((1 << bits) - 1)

    def _broken(self) -> bytes:
        """An invalid frame, or one whose header is wrong."""
        frame = bytearray(codec.frame(self._likely()))
        how = self._random.randrange(4)
        if how == 0:
            at = self._random.randrange(4, len(frame))
            frame[at] = self._random.randrange(256)
        elif how == 1:
            frame = frame[: self._random.randrange(7, len(frame) + 1)]
            frame[:4] = len(frame).to_bytes(4, "little")
        elif how == 2:
            frame += self._random.randbytes(self._random.randrange(1, 30))
            frame[:4] = len(frame).to_bytes(4, "little")
        elif self._random.random() < 0.1:
            frame[:4] = self._random.choice([0, 5, 6, 100_000, 1 << 31]).to_bytes(4, "little")
            self.spoilt = True
        return bytes(frame)

    def _name(self) -> bytes:
        return self._random.choice(NAMES if self._random.random() < 0.9 else self._strange)

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) % 100
        return self._tag


class Client:
    """One connection, reopened whenever it ends."""

    def __init__(self, path: str, generator: Generator) -> None:
        self._path = path
        self._generator = generator
        self._sock: socket.socket | None = None
        self._got = bytearray()
        self.answers: Counter[str] = Counter()

    def act(self) -> None:
        """Send a burst and read available replies.  Raises TimeoutError when the server hangs."""
        try:
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX)
                self._sock.settimeout(HUNG)
                self._sock.connect(self._path)
                self._sock.sendall(b"".join(self._generator.opening()))
            self._sock.sendall(self._generator.burst())
            # A client that disconnects loses replies. The server answers a whole burst, however busy the machine is.
            self._take_in(0.0005, first=0.0005 if self._generator.spoilt else 1.0)
        except ConnectionError:
            self.answers["connection ended"] += 1
            self._generator.spoilt = True
        if self._generator.spoilt:
            self._generator.spoilt = False
            self.close()

    def _take_in(self, quiet: float, first: float | None = None) -> None:
        """Read until nothing came for ``quiet`` seconds; before the first data, for ``first`` seconds."""
        assert self._sock is not None
        wait = quiet if first is None else first
        while select.select([self._sock], [], [], wait)[0]:
            wait = quiet
            piece = self._sock.recv(1 << 16)
            if not piece:
                raise ConnectionResetError
            self._got += piece
        at = 0
        while len(self._got) - at >= 4:
            size = int.from_bytes(self._got[at : at + 4], "little")
            if len(self._got) - at < size:
                break
            reply = codec.decode(bytes(self._got[at : at + size]))
            assert not (isinstance(reply, m.Rread) and SECRET in bytes(reply.data)), "the decoy was read"
            answer = c.ERRNO_NAMES[reply.ecode] if isinstance(reply, m.Rlerror) else type(reply).__name__
            self.answers[answer] += 1
            at += size
        del self._got[:at]

    def settle(self) -> None:
        """Wait for outstanding replies."""
        if self._sock is not None:
            try:
                self._take_in(0.2)
            except ConnectionError:
                self.close()

    def close(self) -> None:
        """End the connection in whatever state it is."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._got.clear()


@contextmanager
def serving(folder: Path, before: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """A server of ``folder/export`` that can write only ``folder``; it must end with status 0.

    ``before``: arguments before its command; ``options``: after it.
    """
    log, path = folder / "log", folder / "s"
    argv = [sys.executable, "-m", "reference_server", "serve", str(folder / "export"), "--unix", str(path)]
    server = ServerProcess([*before, *argv, "--lock-wait", "0.05", *options], log, writable=[folder])
    try:
        server.wait_until(lambda: b"listening on" in log.read_bytes(), 60)
        yield server
        assert server.death() is None, f"{server.death()}: {server.tail()}"
    finally:
        server.stop(grace=60)
    death = server.death() or ""
    assert death.endswith("status 0"), f"{death}, so it met exceptions that it did not expect: {server.tail()}"


class Portrait:
    """A tree that must stay unchanged."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        (tree / "d").mkdir(parents=True)
        for name in ("a", "b", "d/a", "d/b"):
            (tree / name).write_bytes(SECRET)
        (tree / "c").symlink_to("a")
        self._before = self._seen()

    def _seen(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in [self._tree, *self._tree.rglob("*")]:
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            owner = status.st_uid, status.st_gid
            found[str(path)] = status.st_mode, owner, status.st_nlink, status.st_mtime_ns, status.st_ctime_ns, content
        return found

    def check(self) -> None:
        """Check the tree. Raises AssertionError when something changed."""
        assert self._seen() == self._before, "something beside the export was touched"


def run(
    folder: Path,
    seed: int,
    spells: Callable[[int], bool],
    bursts: int,
    share: float = 2.0,
    report: Callable[[int, Look, int], None] = lambda *_: None,
    before: Sequence[str] = (),
    options: Sequence[str] = (),
) -> tuple[list[Look], Counter[str]]:
    """Run spells of ``bursts`` bursts from each client while ``spells``, given the number of frames sent, is true.

    Client and server together use at most ``share`` of one processor.  ``report`` gets each spell: its number, the
    look, requests answered so far.  ``before`` and ``options`` are arguments of the server's command.  Returns the look
    at the idle server after each spell, and the count of each answer.  Raises AssertionError or TimeoutError when the
    server ends, hangs, keeps a resource, or changes or shows anything beside the export.
    """
    looks: list[Look] = []
    (folder / "export").mkdir()
    beside = Portrait(folder / "beside")
    with serving(folder, before, options) as server:
        idle = look(server.pid)
        decoy = os.fsencode(folder / "beside")
        generators = [Generator(f"{seed} {number}", decoy) for number in range(CLIENTS)]
        clients = [Client(str(folder / "s"), generator) for generator in generators]
        begun = time.monotonic()
        used = time.process_time() + processor_time(server.pid)
        while spells(sum(generator.made for generator in generators)):
            for number in range(bursts):
                for client in clients:
                    client.act()
                if number % 20 == 0:
                    busy = time.process_time() + processor_time(server.pid) - used
                    time.sleep(max(0.0, busy / share - (time.monotonic() - begun)))
            for client in clients:
                client.settle()
                client.close()
            looks.append(given_back(server, idle))
            beside.check()
            report(len(looks), looks[-1], sum(sum(client.answers.values()) for client in clients))
    beside.check()
    answers: Counter[str] = Counter()
    for client in clients:
        answers += client.answers
    return looks, answers


def given_back(server: ServerProcess, before: Look) -> Look:
    """Wait until the server has released everything; return the look at it."""

    def idle_again() -> Look | None:
        assert server.death() is None, f"{server.death()}: {server.tail()}"
        now = look(server.pid)
        return now if (now.descriptors, now.threads) == (before.descriptors, before.threads) else None

    now = eventually(idle_again, lambda: f"not given back: {look(server.pid)}, at first {before}")
    assert now is not None
    return now


def growth(looks: list[Look]) -> float:
    """Growth of the idle server in kilobytes: median of the last fifth of the looks less median of the second fifth.

    Not the first fifth: what is allocated once (threads' stacks, arenas, caches) is not a leak.
    """
    fifth = max(len(looks) // 5, 1)
    sizes = [one.kilobytes for one in looks]
    return statistics.median(sizes[-fifth:]) - statistics.median(sizes[fifth : 2 * fifth] or sizes)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Random traffic against a server of its own.")
    parser.add_argument("--seconds", type=float, default=60.0, help="no spell begins after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bursts", type=int, default=2000, help="bursts of each client in a spell")
    parser.add_argument("--share", type=float, default=2.0, help="most of one processor that client and server use")
    parser.add_argument("--folder", type=Path, help="to be made; absolute names in the traffic depend on it")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="assay9-traffic-"))
    try:
        folder.mkdir(exist_ok=options.folder is None)
    except OSError as error:
        parser.error(f"the folder cannot be made: {error}; name one that is not there yet")
    begun = time.monotonic()

    def report(spell: int, seen: Look, answered: int) -> None:
        passed = time.monotonic() - begun
        print(f"{passed:8.1f} s, spell {spell}: {answered} requests answered; idle: {seen}", flush=True)

    until = begun + options.seconds
    looks, answers = run(
        folder, options.seed, lambda _sent: time.monotonic() < until, options.bursts, options.share, report
    )
    print("by answer:", ", ".join(f"{name} {count}" for name, count in answers.most_common()))
    print(
        f"seed {options.seed}, {time.monotonic() - begun:.0f} s, {len(looks)} spells, "
        f"{sum(answers.values())} requests answered: no crash, no hang, nothing beside the export touched or shown, "
        f"every descriptor and thread given back after each spell; "
        f"memory of the idle server grew by {growth(looks):.0f} kB"
    )
    if growth(looks) >= 1024:
        sys.exit("that is a leak")


if __name__ == "__main__":
    main()
