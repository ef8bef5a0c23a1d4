"""Who decides a case: the server, the guest's kernel on what the server answered, or the guest's kernel alone.

A case whose only point is that the guest's kernel refuses a bad argument can't be failed by any server. Who decides is
derived from the messages of each call in the guest's trace: the server decided an errno that the case asserts if it
answered a message of that call with it. Without a trace the server counts as the one who decided, so that no case is
left out by mistake. `decided.toml` beside this module declares the other cases, as recorded; a test derives them again.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.vocabulary import DecidedBy

MEANING: dict[DecidedBy, str] = {
    "server": "the server",
    "informed": "the guest's kernel, on what the server answered",
    "guest": "the guest's kernel alone",
}

DECLARED = Path(__file__).with_name("decided.toml")

LOOKUPS = frozenset({"Tattach", "Twalk", "Tgetattr", "Tclunk", "Txattrwalk", "Treadlink", "Tstatfs"})
"""Messages by which the guest learns about files before it decides: they change nothing and carry no content."""

PREPARING = frozenset(
    {
        "create",
        "open",
        "openat",
        "mkdir",
        "symlink",
        "link",
        "mknod",
        "mkfifo",
        "close",
        "chmod",
        "fchmod",
        "chown",
        "lchown",
        "fchown",
        "write",
        "pwrite",
        "makedirs",
    }
)
"""Calls that other cases judge, where this one goes on to assert something else."""

VERIFYING = frozenset(
    {
        "stat",
        "lstat",
        "fstat",
        "statx",
        "statvfs",
        "slurp",
        "read",
        "pread",
        "listdir",
        "entries",
        "readlink",
        "getxattr",
        "listxattr",
        "hash_file",
        "hash_fd",
        "exists",
        "close",
        "unlink",
        "rmdir",
    }
)
"""Calls that, after a refusal by the guest's kernel, show that nothing changed: no request could have changed it."""
_VERIFYING_MESSAGES = LOOKUPS | {"Tlopen", "Tread", "Treaddir", "Tunlinkat"}

ASKING = frozenset({"access", "faccessat", "faccessat2", "attempts"})
"""Calls that the guest's kernel answers by mode, owner and type, unless the server refuses a message of theirs."""

BY_ATTRIBUTES = frozenset(
    {
        "EACCES",
        "EPERM",
        "ENOTDIR",
        "EISDIR",
        "EEXIST",
        "ENOENT",
        "ELOOP",
        "ENOTEMPTY",
        "EROFS",
        "ETXTBSY",
        "EBUSY",
        "ENXIO",
        "ENODEV",
        "ESPIPE",
        "EOVERFLOW",
        "ENODATA",
        "ERANGE",
        "ESTALE",
        "EADDRINUSE",
        "ECONNREFUSED",
    }
)
"""Errnos that the guest's kernel gives for what a file is, not for what the call was given."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call that the case made inside: its op, the errno it ended with ("" for success), the messages it caused."""

    op: str
    errno: str = ""
    messages: tuple[str, ...] = ()
    """"Twalk", "Tlopen -> EACCES"."""

    @property
    def names(self) -> frozenset[str]:
        """The messages by name."""
        return frozenset(one.partition(" -> ")[0] for one in self.messages)

    @property
    def refused(self) -> frozenset[str]:
        """The errnos with which the server answered."""
        return frozenset(errno for one in self.messages if (errno := one.partition(" -> ")[2]))


def derive(steps: Sequence[Step], covers: Iterable[str] = (), comparisons: Iterable[str] = ()) -> DecidedBy:
    """Who decided a case that made these calls.

    `covers`: messages that the case is about; `comparisons`: the kinds (content, readdir, xattr, ...) that it
    requested.
    """
    if list(covers):
        return "server"
    refusals: set[str] = set()
    asked = silent = prepared = False
    for step in steps:
        if step.errno:
            if step.errno in step.refused or step.names - LOOKUPS:
                return "server"
            refusals.add(step.errno)
        elif step.op in ASKING and not step.names - LOOKUPS:
            if step.op == "attempts" and step.refused - {"ENODATA"}:
                return "server"  # several calls in one: it is unknown which call gave which errno
            asked = True
        elif (refusals or asked) and step.op in VERIFYING and not step.names - _VERIFYING_MESSAGES:
            continue
        elif step.op in PREPARING:
            prepared = prepared or bool(step.messages)
        elif step.names - {"Tclunk"}:
            return "server"
        else:
            silent = True
    if refusals or asked:
        return "informed" if asked or refusals & BY_ATTRIBUTES else "guest"
    if set(comparisons) - {"stat"} or (prepared and not silent):
        return "server"
    return "informed"


def declared(case_id: str, parameters: str = "") -> DecidedBy:
    """Who decides the case, as recorded; the server if nothing is declared."""
    return _declared().get(f"{case_id}[{parameters}]" if parameters else case_id, "server")


def of_case(case_id: str) -> dict[DecidedBy, list[str]]:
    """Who decides the case, by parameters, except where the server does; "" for a case without parameters."""
    found: dict[DecidedBy, list[str]] = {}
    for name, by in _declared().items():
        stem, _, parameters = name.partition("[")
        if stem == case_id:
            found.setdefault(by, []).append(parameters.removesuffix("]"))
    return found


@functools.cache
def _declared() -> Mapping[str, DecidedBy]:
    table = tomllib.loads(DECLARED.read_text(encoding="utf-8"))
    found: dict[str, DecidedBy] = dict.fromkeys(table["informed"], "informed")
    return {**found, **dict.fromkeys(table["guest"], "guest")}
