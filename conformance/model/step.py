"""One call of a sequence: generated, sent to an agent, kept in a replay file, printed as a line of a case."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Operand = str | int | bytes
Where = Literal["inside", "second", "outside"]
"""A process of the guest, another one, or the host."""

_FLAGS = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW")


@dataclass(frozen=True, slots=True)
class Step:
    """A call by name. `slot` is the open file that it opens or uses; None where it names a path only.

    `operands` are the arguments after the slot: paths below the directory of the sequence, numbers, bytes.
    """

    op: str
    operands: tuple[Operand, ...] = ()
    slot: int | None = None
    where: Where = "inside"

    def __str__(self) -> str:
        """The call as written in a case: f0 = open('a', O_RDWR|O_CREAT, 0o644)."""
        words = [repr(one) for one in self.operands]
        if self.op == "open":
            path, flags, mode = self.operands
            words = [repr(path), spelled_flags(int(flags)), f"{int(mode):#o}"]
        elif self.op in ("mkdir", "chmod", "fchmod"):
            words[-1] = f"{int(self.operands[-1]):#o}"
        if self.slot is not None and self.op != "open":
            words.insert(0, f"f{self.slot}")
        call = f"{self.op}({', '.join(words)})"
        head = f"f{self.slot} = " if self.op == "open" else ""
        return f"{head}{call}" if self.where == "inside" else f"{self.where}: {head}{call}"

    def to_json(self) -> dict[str, Any]:
        """For a replay file; bytes as hexadecimal digits."""
        operands = [{"hex": one.hex()} if isinstance(one, bytes) else one for one in self.operands]
        said: dict[str, Any] = {"op": self.op, "operands": operands}
        if self.slot is not None:
            said["slot"] = self.slot
        if self.where != "inside":
            said["where"] = self.where
        return said

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Step:
        """What `to_json` gave. Raises KeyError, TypeError or ValueError for what is not a step."""
        operands = tuple(bytes.fromhex(one["hex"]) if isinstance(one, dict) else one for one in said["operands"])
        where: Where = next((one for one in get_args(Where) if one == said.get("where")), "inside")
        slot = said.get("slot")
        return cls(str(said["op"]), operands, None if slot is None else int(slot), where)


def spelled_flags(flags: int) -> str:
    """Flags of open(2) as C spells them."""
    named = [name for name in _FLAGS if flags & getattr(os, name)]
    if not flags & os.O_ACCMODE:
        named.insert(0, "O_RDONLY")
    return "|".join(named)


def listing(steps: Sequence[Step]) -> Iterator[str]:
    """The sequence, a numbered line for each step."""
    for number, step in enumerate(steps, 1):
        yield f"{number:3} {step}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The allowed results of a step: success with `value`, or an error of `errors` (numbers of errno(3)).

    `succeeds` is False if only errors are allowed. `any_value`: success with any value. `state` describes the call's
    open file in words that known failures can name: "unlinked", "moved" if its path no longer leads to it, "renamed to
    itself", "linked" if it has had a second name; or the file at the call's path: "linked"; and its kind.
    """

    value: Any = None
    errors: frozenset[int] = frozenset()
    succeeds: bool = True
    any_value: bool = False
    state: tuple[str, ...] = field(default=())

    def holds(self, value: Any, error: str) -> bool:
        """Whether that outcome is allowed. `error` is the errno's name, empty for a success."""
        if error:
            return getattr(errno, error, 0) in self.errors
        return self.succeeds and (self.any_value or value == self.value)

    def __str__(self) -> str:
        """For a finding: success with 3, or ENOENT."""
        said = sorted(errno.errorcode[one] for one in self.errors)
        if self.succeeds:
            said.insert(0, "success" if self.any_value or self.value is None else f"success with {self.value!r:.80}")
        return " or ".join(said)


REPLAY = "assay9-sequence"
"""The kind of a replay file."""


def to_replay(steps: Sequence[Step], **about: str) -> dict[str, Any]:
    """A replay file's content; `about` says where it failed: target, case, mount, finding."""
    return {"kind": REPLAY, **about, "steps": [step.to_json() for step in steps]}


def from_replay(said: Any) -> tuple[Step, ...]:
    """The steps of a replay file. Raises ValueError, with what is wrong in it."""
    if not isinstance(said, dict) or said.get("kind") != REPLAY or not isinstance(said.get("steps"), list):
        raise ValueError(f"its kind is not {REPLAY}")
    steps = []
    for number, one in enumerate(said["steps"], 1):
        try:
            steps.append(Step.from_json(one))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"step {number} is not a call with operands") from None
    return tuple(steps)


def as_case(steps: Sequence[Step]) -> str:
    """The sequence as a case that can be pasted into conformance/cases/sequence/."""
    lines = [f"            {step!r}," for step in steps]
    return "\n".join(
        [
            '@case("CALLS-999", covers=[Twalk], caches=FRESH)',
            "def test_name_it(share: Share) -> None:",
            '    """State the requirement.  Source: name it."""',
            "    Player(share, outside=True).play(",
            "        [",
            *lines,
            "        ]",
            "    )",
        ]
    )
