"""Each family of cases names the fault: a call inside answers wrongly, and the finding says what was seen and expected.

Each test alters the agent's answer to one call of one case on its way. The share is otherwise correct: it is a
directory of this host seen twice.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from conformance.case import CASES, Case
from conformance.catalogue.library import load_cases
from conformance.checks import fields
from conformance.evidence.models import CaseResult
from conformance.run.mounted import Runner
from conformance.sut.load import load
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.vfs.mount_options import parse
from conformance.vfs.share import Share
from guests.agent.link import AgentLink, CallError, Reply
from tests.targets import loaded

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: most cases have further users")


@dataclass(frozen=True, slots=True)
class Lie:
    """A wrong answer to the `turn`th call of `op` (0: to each), with the first argument `about` if that is given.

    `value` makes the wrong value from the right one; `errno` replaces the right value; `works` turns a refusal into
    success; `shows` changes what the agent shows, with the reply, of what the call has changed.
    """

    op: str | tuple[str, ...]
    value: Callable[[Any], Any] | None = None
    errno: int = 0
    works: bool = False
    about: Any = None
    turn: int = 1
    shows: Callable[[Any], Any] | None = None


class LyingLink(AgentLink):
    """An agent's channel that alters one answer."""

    lie: Lie
    meant: int
    sent: dict[int, bool]

    def send(self, op: str, args: tuple[Any, ...], kw: dict[str, Any], *rest: Any, **more: Any) -> int:
        number = super().send(op, args, kw, *rest, **more)
        meant = op in ((self.lie.op,) if isinstance(self.lie.op, str) else self.lie.op) and (
            self.lie.about is None or args[:1] == (self.lie.about,)
        )
        self.meant += meant
        self.sent[number] = meant and self.lie.turn in (0, self.meant)
        return number

    def receive(self, number: int, timeout: float) -> Reply:
        lies = self.sent.pop(number, False)
        try:
            reply = super().receive(number, timeout)
        except CallError:
            if lies and self.lie.works:
                return Reply(None, (), 0.0)
            raise
        if lies and self.lie.errno:
            raise CallError(self.lie.errno, os.strerror(self.lie.errno))
        if lies and self.lie.shows is not None:
            seen = tuple((name, self.lie.shows(shown)) for name, shown in reply.seen or ())
            return Reply(reply.value, reply.changed, reply.seconds, seen)
        if lies and self.lie.value is not None:
            return Reply(self.lie.value(reply.value), reply.changed, reply.seconds, reply.seen)
        return reply


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    load_cases()
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path_factory.mktemp("local"), print)
    runner = Runner(load("local"), deployment, "never", "main")
    deployment.start()
    yield runner
    runner.stop()


def run(runner: Runner, case: Case, given: dict[str, Any], lie: Lie | None) -> CaseResult:
    """The case's result when the calls inside get these answers."""
    inside: Any = runner.deployment.inside
    mount = parse(case.mount, parse(f"cache={case.caches[0]}"))
    if lie is not None:
        inside.__class__, inside.lie, inside.meant, inside.sent = LyingLink, lie, 0, {}
    try:
        return runner.run(case, "", mount, partial(case.function, **given))[0]
    finally:
        inside.__class__ = AgentLink


def without(name: str) -> Callable[[Any], Any]:
    """A listing in which one name is missing; entries are names, or lists that begin with one."""
    return lambda seen: [entry for entry in seen if name not in (entry, entry[0])]


def field(name: str, value: Any) -> Callable[[Any], Any]:
    """A stat, or a list of them, in which one field has another value."""
    return lambda seen: [{**one, name: value} for one in seen] if isinstance(seen, list) else {**seen, name: value}


def damaged(seen: Any) -> Any:
    """A file's content with one byte changed, or the size and hash of that."""
    return (seen[0], "0" * 64) if isinstance(seen, tuple) else seen[:70_000] + b"?" + seen[70_001:]


ACL = bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000000ffffffff")

FAULTS: list[tuple[str, dict[str, Any], Lie, str, str]] = [
    (
        "ACCESS-003",
        {},
        Lie("access", works=True, turn=2),
        "errno",
        "inside: access('fred', 6) succeeded with None, expected EACCES",
    ),
    (
        "ACCESS-002",
        {},
        Lie("attempts", lambda seen: [errno.EACCES, *seen[1:]], turn=6),
        "value",
        "what access(2) grants root with mode 0 on 'd': '-wx', expected 'rwx'",
    ),
    ("ACL-001", {}, Lie("getxattr", lambda _: ACL), "xattr", "entries of system.posix_acl_access of 'fred' inside:"),
    (
        "CONC-003",
        {"where": "inside"},
        Lie("try_create_exclusively", lambda _: list(range(60)), turn=0),
        "value",
        "names that both processes created with O_EXCL: unexpected {",
    ),
    ("OBSERVER-006", {}, Lie("hash_file", damaged), "content", "sha256 of 'log': inside '0000"),
    (
        "LAYERED-002",
        {},
        Lie("run", lambda done: {**done, "stdout": b"content\n3\n"}),
        "value",
        "bytes and size by the file system in user space: ['content', '3']",
    ),
    (
        "MANY-001",
        {"way": "held-open"},
        Lie("run", lambda done: {**done, "stdout": b"449 1341 2"}, turn=2),
        "names",
        "names, bytes and errnos under held-open: '449 1341 2', expected '450 13",
    ),
    ("STACKED-001", {}, Lie("slurp", damaged), "content", "content of 'from/file'"),
    ("COPY-002", {}, Lie("copy_file_range", lambda n: n - 1), "value", "copy_file_range() copied: 3, expected 4"),
    (
        "DIRECTORY-012",
        {"entry": "file"},
        Lie("rmdir", works=True),
        "errno",
        "inside: rmdir('dir') succeeded with None, expected ENOTEMPTY",
    ),
    (
        "DIRECTORY-003",
        {},
        Lie("look", field("st_gid", 7), about=["project/roots"]),
        "field:gid",
        "gid of 'project/roots': inside 7, outside 2001",
    ),
    (
        "EXEC-003",
        {"way": "#!/bin/sh"},
        Lie("run", lambda done: {**done, "stdout": b"x"}),
        "content",
        "output of ./script: b'x', expected b'script one\\n'",
    ),
    (
        "FALLOC-002",
        {},
        Lie("slurp", lambda data: data + b"\0"),
        "content",
        "content of 'fred' inside: b'abc\\x00', expected b'abc'",
    ),
    ("IDENTITY-005", {}, Lie("getxattr", lambda value: value[:-1]), "xattr", "security.ima of 'barney' inside"),
    (
        "INOTIFY-001",
        {"call": "create"},
        Lie("inotify_read", lambda _: []),
        "value",
        "events of the watched directory after create: [], expected ['IN_CREATE new']",
    ),
    ("IO-017", {}, Lie(("hash_file", "slurp"), damaged, turn=0), "content", "bytes from 70000 of 'fred': inside b'?"),
    (
        "IO-003",
        {},
        Lie("pread", lambda data: data[:3]),
        "content",
        "bytes read at offset 4 inside: b'456', expected b'456789'",
    ),
    (
        "IO-205",
        {"offset": 1 << 32},
        Lie("pread", lambda _: b"x"),
        "content",
        "bytes read at offset 4294967296 inside: b'x', expected b''",
    ),
    ("IO-101", {}, Lie("writev", lambda n: n - 1), "value", "bytes that writev() wrote: 205003, expected 205004"),
    (
        "LINK-007",
        {},
        Lie("linkat", errno=errno.ENOENT),
        "errno",
        "inside: linkat('soft', 'hard', 1024) failed with ENOENT",
    ),
    (
        "LOCK-008",
        {},
        Lie("getlk", lambda lock: {**lock, "type": "u"}),
        "value",
        "lock that F_GETLK reports in the way: 'type': 'u', expected 'w'",
    ),
    ("LOCK-005", {}, Lie("setlk", errno=errno.EAGAIN, turn=2), "errno", "failed with EAGAIN"),
    (
        "MMAP-013",
        {},
        Lie("map_read", lambda data: b"\0" + data[1:]),
        "content",
        "bytes of the mapping: b'\\x00bc\\x00\\x00', expected b'abc\\x00\\x00'",
    ),
    (
        "MODE-003",
        {"kind": "file"},
        Lie("stat", field("st_mode", 0o100000)),
        "field:mode",
        "permission bits of 'x' inside: 0o0, expected 0o1",
    ),
    ("MOUNTABLE-001", {}, Lie("open", errno=errno.EIO, about="."), "errno", "failed with EIO"),
    (
        "NAMES-001",
        {"name": "fred"},
        Lie("entries", without("fred")),
        "names",
        "names of '.': inside [], outside ['fred']",
    ),
    ("NODE-013", {}, Lie("accept", errno=errno.EINVAL), "errno", "inside: accept("),
    ("NODE-012", {}, Lie("open", works=True, about="fifo"), "errno", "succeeded with None, expected ENXIO"),
    ("OPEN-011", {}, Lie("open", errno=errno.EIO), "errno", "inside: open('fred', 1025) failed with EIO"),
    (
        "OPEN-005",
        {"kind": "file"},
        Lie("slurp", lambda _: b""),
        "content",
        "content of 'taken' inside: b'', expected b'file'",
    ),
    (
        "OPEN-201",
        {},
        Lie("attempts", lambda seen: [0, *seen[1:]], turn=6),
        "errno",
        "result of open('fred', 0) by the class group on mode 0o400: success, expected EACCES",
    ),
    (
        "OPEN-121",
        {},
        Lie("fcntl", lambda _: os.O_RDWR),
        "value",
        "flags that F_GETFL reports of open(0o0): 0o2, expected 0o0",
    ),
    ("OWNER-014", {}, Lie("stat", field("st_uid", 0)), "field:uid", "uid of 'fred' inside: 0, expected 1001"),
    (
        "PATHS-001",
        {},
        Lie("stat", field("st_ino", 7), about="a//fred"),
        "field:ino",
        "ino of 'a//fred' inside: 7, expected",
    ),
    ("PERM-003", {}, Lie("rename", errno=errno.EACCES), "errno", "inside: rename('d/b', 'd/c') failed with EACCES"),
    (
        "READDIR-001",
        {"count": 127},
        Lie("readdir_all", without("f000100")),
        "names",
        "no name that getdents() returned is missing (seen: '1: f000100')",
    ),
    ("READDIR-005", {}, Lie("lstat", field("st_ino", 7), about="file"), "field:ino", "d_ino of 'file':"),
    (
        "RENAME-012",
        {},
        Lie("rename", errno=errno.EBUSY, works=True),
        "errno",
        "inside: rename('old', 'new') succeeded with None, expected ENOTEMPTY",
    ),
    (
        "RENAME-004",
        {},
        Lie("pread", lambda _: b"new configuration"),
        "content",
        "content read by the replaced file's descriptor: b'new configuration', expected b'old configuration'",
    ),
    (
        "RENAMEFLAGS-002",
        {},
        Lie("renameat2", works=True),
        "errno",
        "inside: renameat2('fred', 'george', 1) succeeded with None, expected EEXIST",
    ),
    ("SEEK-002", {}, Lie("lseek", lambda at: at - 1), "value", "result of lseek(1000, SEEK_END): 1002, expected 1003"),
    ("SESSION-001", {}, Lie("slurp", errno=errno.EACCES), "errno", "inside: slurp('fred') failed with EACCES"),
    ("STAT-009", {}, Lie("stat", field("st_mtime_ns", 9)), "field:mtime_ns", "mtime_ns of 'f0' inside: 9, expected 7"),
    (
        "STAT-006",
        {},
        Lie("stat", field("st_size", 3), about="f4096"),
        "field:size",
        "size of 'f4096' inside: 3, expected 4096",
    ),
    ("STATFS-004", {}, Lie("statfs", field("f_bavail", 1 << 62)), "field:bavail", "f_bavail, at most f_bfree,"),
    (
        "SYMLINK-011",
        {"size": 9},
        Lie("readlink_size", lambda text: text + b"9"),
        "field:target",
        "text that readlink(2) put into a buffer of 9: b'0123456789', expected b'012345678'",
    ),
    ("SYNC-001", {"way": "fsync", "access": os.O_RDONLY}, Lie("fsync", errno=errno.EINVAL), "errno", "inside: fsync("),
    (
        "TIME-017",
        {},
        Lie("stat", field("st_atime_ns", 0)),
        "field:atime_ns",
        "atime_ns of 'fred' inside: 0, expected 1000000000000000000",
    ),
    ("TIME-001", {}, Lie("utimensat", shows=field("st_size", 9)), "field:size", "size of 'fred'"),
    (
        "TRUNC-001",
        {"way": "truncate"},
        Lie("slurp", lambda data: data[:-1]),
        "content",
        "content of 'fred' inside: 19998 bytes, expected 19999; first difference at byte 19998",
    ),
    (
        "UNLINK-004",
        {},
        Lie("unlink", works=True),
        "errno",
        "inside: unlink('fred/') succeeded with None, expected ENOTDIR",
    ),
    ("UNLINKED-005", {"lose": None}, Lie("fchmod", errno=errno.ENOENT), "errno", "inside: fchmod("),
    (
        "UNLINKED-002",
        {"lose": None},
        Lie("fstat", field("st_size", 14)),
        "field:size",
        "size of the file without a name by fstat(2): 14, expected 21",
    ),
    (
        "XATTR-001",
        {"kind": "file"},
        Lie("getxattr", lambda _: b""),
        "xattr",
        "value of user.colour of 'x' inside: b'', expected b'blue'",
    ),
    (
        "XATTR-012",
        {},
        Lie("getxattr_size", works=True, turn=4),
        "errno",
        "inside: getxattr_size('fred', 'user.a', 4) succeeded with None, expected ERANGE",
    ),
]


@needs_root
@pytest.mark.parametrize(
    ("id", "given", "lie", "code", "text"), FAULTS, ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)]
)
def test_the_finding_names_the_fault(
    runner: Runner, id: str, given: dict[str, Any], lie: Lie, code: str, text: str
) -> None:
    case = CASES[id]
    if "lose" in given:
        given = {"lose": case.function.__globals__["unlink"]}
    right = run(runner, case, given, None)
    if right.verdict == "undrivable":
        pytest.skip(right.reason)
    assert right.verdict == "pass", right.reason
    wrong = run(runner, case, given, lie)
    assert wrong.verdict == "fail", wrong.reason
    first = wrong.findings[0]
    assert first.code == code, first
    assert text in first.text, first.text
    assert {"seen", "expected"} <= first.values.keys() or {"inside", "outside"} <= first.values.keys()


@needs_root
def test_a_file_that_is_gone_on_both_sides_is_a_finding(runner: Runner) -> None:
    def body(share: Share) -> None:
        share.inside.create("fred")
        share.outside.unlink("fred")
        fields("'fred'", share.same(share.stat("fred")), nlink=1)

    judged = runner.run(CASES["STAT-009"], "", parse(""), body)[0]
    assert (judged.verdict, judged.findings[0].code) == ("fail", "exists"), judged.reason
    assert "'fred' is missing: inside ENOENT, outside ENOENT" in judged.reason


@needs_root
def test_a_case_that_judges_nothing_is_an_error_and_no_pass(runner: Runner) -> None:
    def body(share: Share) -> None:
        share.inside.stat(".")

    judged = runner.run(CASES["STAT-009"], "", parse(""), body)[0]
    assert judged.verdict == "error" and "ended without judging anything" in judged.reason, judged.reason


def test_every_family_of_the_vfs_layer_is_here() -> None:
    families = {case.family for case in load_cases() if case.layer == "vfs"}
    assert families - {CASES[id].family for id, *_ in FAULTS} == set()
