"""The state of a 9P2000.L session as a pure model: fids, what they stand for, and the tree that they walk.

For each request it returns the allowed results, and the fids and paths that the request touches: requests that touch
nothing in common may be in flight together, and be served in any order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Path = tuple[bytes, ...]
State = Literal["unknown", "directory", "file", "open file", "open directory", "removed", "open removed"]
Resource = tuple[str, object]

OPS = ("walk", "lopen", "lcreate", "mkdir", "read", "write", "getattr", "clunk", "remove", "unlink", "readdir")
OTHER = "other"
"""Any request, on fids and in a directory of its own: `names` has its name, `number` chooses its fields. Its outcome is
not predicted; what is judged is that it has one, and that nothing else changes."""
FIELD_BITS, MOST_FIELDS, FIDS_ASIDE = 16, 10, 7
"""Bits of `number` that choose a field of such a request, the first field has the lowest; how many fids they use. Fid 0
of these is the directory; a fid is the field's bits modulo their number."""
NAMES = (b"a", b"b", b"c")
FIDS = 6
ROOT = 0
"""The fid of the case's directory, which no request changes."""
READ_ONLY, WRITE_ONLY, READ_WRITE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `fid` and `newfid` are the model's numbers, ROOT among them."""

    op: str
    fid: int
    newfid: int = 0
    names: Path = ()
    number: int = 0
    """Access mode, offset, or 1 for the removal of a directory."""
    data: bytes = b""

    def __str__(self) -> str:
        if self.op == OTHER:
            return f"{self.names[0].decode()}(fields {self.number:#x})"
        words = [f"fid {self.fid}"]
        if self.op == "walk":
            words.append(f"newfid {self.newfid}")
        words += [repr(b"/".join(self.names))] if self.names else []
        words += [str(self.number)] if self.op in ("lopen", "read", "write", "unlink") else []
        words += [f"{len(self.data)} bytes"] if self.op == "write" else []
        return f"{self.op}({', '.join(words)})"


@dataclass(frozen=True, slots=True)
class Expected:
    """The allowed results of a request. `value` is what a success must return; None if that is not judged."""

    succeeds: bool = True
    refused: bool = False
    value: object = None

    def __str__(self) -> str:
        success = "success" if self.value is None else f"success with {self.value!r:.80}"
        return " or ".join([success] * self.succeeds + ["a refusal"] * self.refused)


DONE, REFUSED, EITHER = Expected(), Expected(succeeds=False, refused=True), Expected(refused=True)


@dataclass(eq=False, slots=True)
class Node:
    """A file or directory of the tree."""

    directory: bool
    data: bytearray = field(default_factory=bytearray)
    entries: dict[bytes, Node] = field(default_factory=dict)
    removed: bool = False


@dataclass(slots=True)
class Fid:
    """What a fid stands for."""

    node: Node
    path: Path
    access: int | None = None
    """How it is open; None where it is not."""


class Protocol:
    """The state. `expect` returns the allowed results of a request, and applies its effect."""

    def __init__(self) -> None:
        self.root = Node(directory=True)
        self.fids: dict[int, Fid] = {ROOT: Fid(self.root, ())}

    def state(self, number: int) -> State:
        """The state of a fid, in words for the coverage."""
        fid = self.fids.get(number)
        if fid is None:
            return "unknown"
        if fid.node.removed:
            return "removed" if fid.access is None else "open removed"
        if fid.access is None:
            return "directory" if fid.node.directory else "file"
        return "open directory" if fid.node.directory else "open file"

    # ---- what a request touches

    def footprint(self, ask: Ask) -> tuple[set[Resource], set[Resource]]:
        """What it reads, and what it changes."""
        if ask.op == OTHER:
            return set(), {(OTHER, "")}
        fid = self.fids.get(ask.fid)
        reads: set[Resource] = {("fid", ask.fid)}
        writes: set[Resource] = set()
        if ask.op in ("lopen", "lcreate", "clunk", "remove"):
            writes.add(("fid", ask.fid))
        if ask.op == "walk":
            writes.add(("fid", ask.newfid))
        if fid is None:
            return reads, writes
        if ask.op == "walk":
            reads |= {("path", (*fid.path, *ask.names[:count])) for count in range(len(ask.names) + 1)}
        elif ask.op in ("lcreate", "mkdir", "unlink"):
            reads.add(("path", fid.path))
            writes |= {("path", (*fid.path, *ask.names)), ("entries", fid.path)}
        elif ask.op == "remove":
            writes |= {("path", fid.path), ("entries", fid.path[:-1])}
            reads.add(("entries", fid.path))
        elif ask.op == "write":
            writes.add(("data", id(fid.node)))
        elif ask.op in ("read", "getattr"):
            reads |= {("data", id(fid.node)), ("path", fid.path)}
        elif ask.op == "readdir":
            reads.add(("entries", fid.path))
        else:
            reads.add(("path", fid.path))
        return reads, writes

    # ---- its results

    def expect(self, ask: Ask) -> Expected:
        """The allowed results; if a success is allowed, it is applied to the model."""
        if ask.op == OTHER:
            return EITHER
        fid = self.fids.get(ask.fid)
        if fid is None:
            return REFUSED
        if ask.op == "clunk":
            del self.fids[ask.fid]
            return DONE
        if ask.op == "remove":
            return self._remove(ask.fid, fid)
        if fid.node.removed and fid.access is None:
            return EITHER  # a server may still know the file, or not: intro(5) leaves that open
        made: Expected = getattr(self, f"_{ask.op}")(ask, fid)
        return made

    def _walk(self, ask: Ask, fid: Fid) -> Expected:
        taken = ask.newfid != ask.fid and ask.newfid in self.fids
        node, count = fid.node, 0
        for name in ask.names:
            if not node.directory or name not in node.entries:
                break
            node, count = node.entries[name], count + 1
        if (ask.names and not count) or (taken and count == len(ask.names)):
            return REFUSED
        if taken:  # it would make no fid, so the server may ignore whether the number is free
            return Expected(refused=True, value=count)
        if count == len(ask.names):
            self.fids[ask.newfid] = Fid(node, (*fid.path, *ask.names))
        return Expected(value=count)

    def _lopen(self, ask: Ask, fid: Fid) -> Expected:
        if fid.access is not None or (fid.node.directory and ask.number != READ_ONLY):
            return REFUSED
        fid.access = ask.number
        return DONE

    def _lcreate(self, ask: Ask, fid: Fid) -> Expected:
        if fid.access is not None or not fid.node.directory or ask.names[0] in fid.node.entries:
            return REFUSED
        made = fid.node.entries[ask.names[0]] = Node(directory=False)
        self.fids[ask.fid] = Fid(made, (*fid.path, *ask.names), READ_WRITE)
        return DONE

    def _mkdir(self, ask: Ask, fid: Fid) -> Expected:
        if not fid.node.directory or ask.names[0] in fid.node.entries:
            return REFUSED
        fid.node.entries[ask.names[0]] = Node(directory=True)
        return DONE

    def _read(self, ask: Ask, fid: Fid) -> Expected:
        if fid.access is None or fid.node.directory or fid.access == WRITE_ONLY:
            return REFUSED
        return Expected(value=bytes(fid.node.data[ask.number : ask.number + 4096]))

    def _write(self, ask: Ask, fid: Fid) -> Expected:
        if fid.access is None or fid.node.directory or fid.access == READ_ONLY:
            return REFUSED
        data = fid.node.data
        if len(data) < ask.number:
            data.extend(bytes(ask.number - len(data)))
        data[ask.number : ask.number + len(ask.data)] = ask.data
        return Expected(value=len(ask.data))

    def _getattr(self, _ask: Ask, fid: Fid) -> Expected:
        if fid.node.removed:
            return EITHER  # other cases check it (WIRE-ATTR-007)
        return Expected(value=("directory",) if fid.node.directory else ("file", len(fid.node.data)))

    def _readdir(self, _ask: Ask, fid: Fid) -> Expected:
        if fid.access is None or not fid.node.directory:
            return REFUSED
        return Expected(value=frozenset(fid.node.entries))

    def _unlink(self, ask: Ask, fid: Fid) -> Expected:
        node = fid.node.entries.get(ask.names[0]) if fid.node.directory else None
        if node is None or node.directory != bool(ask.number) or node.entries:
            return REFUSED
        del fid.node.entries[ask.names[0]]
        node.removed = True
        return DONE

    def _remove(self, number: int, fid: Fid) -> Expected:
        del self.fids[number]  # whatever the result: remove(5)
        if fid.node.removed:
            return EITHER
        if fid.node.entries:
            return REFUSED
        above = self.root
        for name in fid.path[:-1]:
            above = above.entries[name]
        del above.entries[fid.path[-1]]
        fid.node.removed = True
        return DONE


def asks(seed: int, count: int) -> Iterator[Ask]:
    """Random requests, most of which fit the current state."""
    chance, model = random.Random(seed), Protocol()
    for _ in range(count):
        made = random_ask(chance, model)
        if usable(model, made):
            model.expect(made)
            yield made


def usable(model: Protocol, ask: Ask) -> bool:
    """Whether its result can be predicted: not a walk from an open fid, which servers allow or refuse, not one that may
    or may not make a fid, and nothing that changes the fid of the case's directory.
    """
    if ask.op == OTHER:
        return True
    if ask.fid == ROOT and ask.op in ("clunk", "remove", "lopen", "lcreate"):
        return False
    fid = model.fids.get(ask.fid)
    if fid is not None and not fid.path and ask.op == "remove":
        return False  # another fid of the case's directory
    if fid is not None and fid.node.directory and ask.op == "lopen" and ask.number != READ_ONLY:
        return False  # refused, or opened for reading: WIRE-OPEN has a case for it
    if ask.op == "walk":
        return ask.newfid != ROOT and (fid is None or (fid.access is None and not fid.node.removed))
    if fid is not None and fid.node.removed:
        return ask.op in ("clunk", "read", "write", "getattr") and not (fid.node.directory and ask.op != "clunk")
    # Making or removing entries through an open fid of the directory is another requirement.
    return not (fid is not None and fid.access is not None and ask.op in ("mkdir", "unlink", "lcreate"))


def random_ask(chance: random.Random, model: Protocol) -> Ask:
    """A request, which may not be `usable`."""
    known = sorted(model.fids)
    fid = chance.choice(known) if chance.random() < 0.85 else chance.randrange(1, FIDS + 1)
    op = chance.choice((*OPS, "walk", "walk", "walk", "lopen", "lcreate", "write"))
    if op == "walk":
        free = [one for one in range(1, FIDS + 1) if one not in model.fids]
        newfid = chance.choice(free) if free and chance.random() < 0.85 else chance.randrange(1, FIDS + 1)
        return Ask(op, fid, newfid, tuple(chance.choice(NAMES) for _ in range(chance.randrange(3))))
    if op in ("lcreate", "mkdir", "unlink"):
        return Ask(op, fid, names=(chance.choice(NAMES),), number=chance.randrange(2))
    if op == "lopen":
        return Ask(op, fid, number=chance.choice((READ_ONLY, READ_WRITE, WRITE_ONLY)))
    if op == "write":
        data = chance.choice((b"x", b"hello", b"0123456789" * 40))
        return Ask(op, fid, number=chance.choice((0, 0, 3, 5000)), data=data)
    return Ask(op, fid, number=chance.choice((0, 0, 2)) if op == "read" else 0)


def together(model: Protocol, wanted: Sequence[Ask], most: int) -> Iterator[list[tuple[Ask, State, Expected]]]:
    """Groups of at most `most` requests that may be in flight together, each with its fid's state and allowed results.

    The model advances as the groups are consumed. Requests that are not `usable` are left out.
    """
    group: list[tuple[Ask, State, Expected]] = []
    read: set[Resource] = set()
    written: set[Resource] = set()
    for ask in wanted:
        if not usable(model, ask):
            continue
        reads, writes = model.footprint(ask)
        if group and (len(group) == most or writes & (read | written) or reads & written):
            yield group
            group, read, written = [], set(), set()
        read |= reads
        written |= writes
        state = model.state(ask.fid)
        group.append((ask, state, model.expect(ask)))
    if group:
        yield group


def listing(played: Iterable[Ask | str]) -> str:
    """The requests, a numbered line for each."""
    return "\n".join(f"{number:3} {one}" for number, one in enumerate(played, 1))
