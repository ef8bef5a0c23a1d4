"""Random sequences of calls, as strategies of Hypothesis.

A sequence is drawn together with the model, so that most paths exist, most slots are open and most calls succeed. The
alphabet of names is small, so that calls use the same files.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from conformance.model.filesystem import FileSystem, Inode
from conformance.model.step import Step, Where

NAMES = ("a", "b", "c")
DEPTH = 3
SLOTS = 3
SIZES = (0, 1, 5, 100, 4096, 9000)
"""Counts and offsets: on both sides of a page, small enough to be cheap."""
DATA = (b"", b"x", b"hello", b"0123456789" * 430)
MODES = (0o600, 0o640, 0o755)
XATTRS = ("user.a", "user.b")
SECOND = 2
"""Slots of the second process, after those of the first."""
TOGETHER_CALLS = frozenset({"lock", "mapread"})
"""Calls that are made where a second process plays, too."""
XATTR_CALLS = frozenset({"setxattr", "getxattr", "listxattr", "removexattr"})

Pair = tuple[str, str]
"""An operation, and the state of what it is about (`Allowed.state`)."""

_PROCESSES: tuple[Where, ...] = ("inside", "inside", "second")

ByPath = Callable[[st.DrawFn, FileSystem], tuple[str | int | bytes, ...]]


@st.composite
def sequences(
    draw: st.DrawFn,
    steps: int,
    outside: bool = True,
    without: frozenset[str] = frozenset(),
    together: bool = False,
    guide: Mapping[Pair, int] | None = None,
) -> tuple[Step, ...]:
    """At most `steps` steps, each of which applies at its place (`FileSystem.applies`).

    `outside`: the host changes files, too. `without`: calls that are not made. `together`: a second process of the
    guest takes part, and both lock and map. `guide`: how often each pair occurred before this sequence; every other
    step is then one of the rarest possible ones, so that rare pairs come early.
    """
    model, made = FileSystem(), []
    met = Counter(guide or {})
    calls = [op for op in [*_WEIGHTED, *sorted(TOGETHER_CALLS) * 3 * together] if op not in without]
    for _ in range(draw(st.integers(1, steps))):
        if guide is None or not draw(st.booleans()) or (step := _rare(draw, model, calls, met)) is None:
            step = draw(_steps(model, outside, calls, together))
        if model.applies(step):
            met[pair(model, step)] += 1
            model.step(step)
            made.append(step)
    return tuple(made)


def pair(model: FileSystem, step: Step) -> Pair:
    """The pair that the step covers, if it is made now."""
    return step.op, " ".join(model.about(step))


def pairs(steps: Sequence[Step]) -> Counter[Pair]:
    """The pairs that a sequence covers, and how often."""
    model, met = FileSystem(), Counter[Pair]()
    for step in steps:
        met[pair(model, step)] += 1
        model.step(step)
    return met


def _rare(draw: st.DrawFn, model: FileSystem, calls: Sequence[str], met: Mapping[Pair, int]) -> Step | None:
    """A call of the rarest pair that is possible now."""
    by_slot = _BY_SLOT | _TOGETHER
    possible: dict[Pair, list[Step]] = {}
    for slot in sorted(model.open):
        where: Where = "inside" if slot < SLOTS else "second"
        state = " ".join(model.about(Step("fstat", slot=slot, where=where)))
        for op in by_slot:
            if op in calls and model.applies(step := Step(op, slot=slot, where=where)):
                possible.setdefault((op, state), []).append(step)
    for path, _ in model.tree():
        state = " ".join(model.state_of(path))
        for op in _OF_A_PATH:
            if op in calls:
                possible.setdefault((op, state), []).append(Step(op, (path,)))
    if not possible:
        return None
    least = min(met[one] for one in possible)
    chosen = possible[draw(st.sampled_from(sorted(one for one in possible if met[one] == least)))]
    step = draw(st.sampled_from(chosen))
    if step.slot is not None:
        return replace(step, operands=by_slot[step.op](draw, model))
    return replace(step, operands=(*step.operands, *_BY_NAME[step.op](draw, model)[1:]))


@st.composite
def _steps(draw: st.DrawFn, model: FileSystem, outside: bool, calls: Sequence[str], together: bool) -> Step:
    op = draw(st.sampled_from(calls))
    where: Where = draw(st.sampled_from(_PROCESSES)) if together else "inside"
    if op == "open":
        slots = range(SLOTS) if where == "inside" else range(SLOTS, SLOTS + SECOND)
        free = [slot for slot in slots if slot not in model.open]
        operands = (_path(draw, model), draw(_flags()), draw(st.sampled_from(MODES)))
        return Step(op, operands, free[0] if free else slots[0], where)
    by_slot = _BY_SLOT | _TOGETHER
    if op in by_slot:
        slot = draw(st.sampled_from(sorted(model.open) or [0]))
        return Step(op, by_slot[op](draw, model), slot, "inside" if slot < SLOTS else "second")
    if outside and op in _CHANGES_BY_NAME and not model.open and draw(st.integers(0, 5)) == 5:
        where = "outside"
    return Step(op, _BY_NAME[op](draw, model), where=where)


@st.composite
def _flags(draw: st.DrawFn) -> int:
    flags = int(draw(st.sampled_from((os.O_RDWR, os.O_RDONLY, os.O_WRONLY))))
    created = draw(st.sampled_from((os.O_CREAT, 0, os.O_CREAT | os.O_EXCL)))
    flags |= created
    if flags & os.O_ACCMODE:
        flags |= draw(st.sampled_from((0, 0, 0, os.O_TRUNC)))
    return int(flags | draw(st.sampled_from((0, 0, os.O_APPEND, os.O_NOFOLLOW, 0 if created else os.O_DIRECTORY))))


def _path(draw: st.DrawFn, model: FileSystem, wanted: Callable[[Inode], bool] = lambda _: True) -> str:
    """A path: three times in four one that leads to a wanted inode, else any, which may not exist."""
    fitting = [path for path, inode in model.tree() if wanted(inode)]
    if fitting and draw(st.integers(0, 3)) < 3:
        return str(draw(st.sampled_from(fitting)))
    return _new(draw, model)


def _new(draw: st.DrawFn, model: FileSystem) -> str:
    """A name of the alphabet in a directory that exists, mostly; else any path."""
    directories = ["", *(f"{path}/" for path, inode in model.tree() if inode.kind == "directory")]
    if draw(st.integers(0, 7)) < 7:
        head = str(draw(st.sampled_from(directories)))
        if head.count("/") < DEPTH:
            return head + draw(st.sampled_from(NAMES))
    return "/".join(draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=DEPTH)))


def _directory(inode: Inode) -> bool:
    return inode.kind == "directory"


def _not_directory(inode: Inode) -> bool:
    return inode.kind != "directory"


def _one(values: Sequence[int]) -> ByPath:
    return lambda draw, _: (draw(st.sampled_from(values)),)


_BY_SLOT: dict[str, ByPath] = {
    "close": lambda _draw, _model: (),
    "fstat": lambda _draw, _model: (),
    "fsync": lambda _draw, _model: (),
    "read": _one(SIZES),
    "write": lambda draw, _: (draw(st.sampled_from(DATA)),),
    "pread": lambda draw, _: (draw(st.sampled_from(SIZES)), draw(st.sampled_from(SIZES))),
    "pwrite": lambda draw, _: (draw(st.sampled_from(DATA)), draw(st.sampled_from(SIZES))),
    "lseek": lambda draw, _: (draw(st.sampled_from((0, 1, -3, 5000))), draw(st.sampled_from((0, 1, 2)))),
    "ftruncate": _one(SIZES),
    "fchmod": _one(MODES),
}
_TOGETHER: dict[str, ByPath] = {
    "lock": lambda draw, _: (
        draw(st.sampled_from(("w", "r", "u"))),
        draw(st.sampled_from((0, 2, 5))),
        draw(st.sampled_from((0, 1, 4))),
    ),
    "mapread": lambda draw, _: (draw(st.sampled_from(SIZES[1:])), draw(st.sampled_from(SIZES))),
}
_BY_NAME: dict[str, ByPath] = {
    "mkdir": lambda draw, model: (_new(draw, model), 0o755),
    "rmdir": lambda draw, model: (_path(draw, model, _directory),),
    "unlink": lambda draw, model: (_path(draw, model, _not_directory),),
    "link": lambda draw, model: (_path(draw, model, _not_directory), _new(draw, model)),
    "symlink": lambda draw, model: (_path(draw, model), _new(draw, model)),
    "readlink": lambda draw, model: (_path(draw, model, lambda inode: inode.kind == "link"),),
    "rename": lambda draw, model: (_path(draw, model), draw(st.sampled_from((_new, _path)))(draw, model)),
    "listdir": lambda draw, model: (_path(draw, model, _directory),),
    "lstat": lambda draw, model: (_path(draw, model),),
    "stat": lambda draw, model: (_path(draw, model),),
    "chmod": lambda draw, model: (_path(draw, model), draw(st.sampled_from(MODES))),
    "truncate": lambda draw, model: (_path(draw, model, _not_directory), draw(st.sampled_from(SIZES))),
    "setxattr": lambda draw, model: (
        _path(draw, model),
        draw(st.sampled_from(XATTRS)),
        draw(st.sampled_from((b"v", b"", b"w" * 200))),
        draw(st.sampled_from((0, os.XATTR_CREATE, os.XATTR_REPLACE))),
    ),
    "getxattr": lambda draw, model: (_path(draw, model, lambda i: bool(i.xattrs)), draw(st.sampled_from(XATTRS))),
    "listxattr": lambda draw, model: (_path(draw, model),),
    "removexattr": lambda draw, model: (_path(draw, model, lambda i: bool(i.xattrs)), draw(st.sampled_from(XATTRS))),
}
_OF_A_PATH = tuple(op for op in _BY_NAME if op not in ("mkdir", "symlink"))
"""Those whose first operand is a path that mostly exists."""
_CHANGES_BY_NAME = frozenset({"mkdir", "rmdir", "unlink", "link", "symlink", "rename", "chmod", "truncate"})
_WEIGHTED = [
    *["open"] * 6,
    *["write", "pwrite", "read", "pread", "close", "rename", "unlink"] * 2,
    *_BY_SLOT,
    *_BY_NAME,
]
