"""The agent for machines without Python: it answers as the agent does, or says that no command expresses the call."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from errno import ENOENT, ENOTDIR
from pathlib import Path
from typing import Any

import pytest

from guests.access.shell import Result
from guests.agent.link import AgentLink, CallError
from guests.agent.local_channel import LocalChannel
from guests.agent.ops import Ops
from guests.agent.shell_channel import ShellChannel
from guests.agent.wire import CallAbsent

BUSYBOX = shutil.which("busybox")


class HostShell:
    """A shell of this host, which finds commands in `path` alone; the words of `launcher` precede each command."""

    alive = True

    def __init__(self, path: str, launcher: tuple[str, ...] = ()) -> None:
        self._path, self._launcher = path, launcher

    def run(self, argv: Sequence[str] | str, timeout: float = 60.0, stdin: bytes = b"") -> Result:
        assert not isinstance(argv, str)
        program = shutil.which(Path(argv[0]).name, path=self._path) or argv[0]
        done = subprocess.run(
            [*self._launcher, program, *argv[1:]],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env={"PATH": self._path},
            check=False,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        return Result(done.returncode, out, err)

    def push(self, local: Path, remote: str, mode: int = 0o644) -> None:
        raise NotImplementedError

    def pull(self, remote: str, local: Path) -> None:
        raise NotImplementedError

    def open_channel(self, argv: Sequence[str] | str) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...


def busybox_alone(tmp_path: Path) -> str:
    """A directory that holds busybox under the names of its commands, and nothing else."""
    if BUSYBOX is None:
        pytest.skip("no busybox here")
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in listed:
        (commands / name).symlink_to(BUSYBOX)
    return str(commands)


@pytest.fixture(params=["coreutils", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentLink]:
    path = "/usr/bin:/bin" if request.param == "coreutils" else busybox_alone(tmp_path)
    link = AgentLink(ShellChannel(HostShell(path)))
    (tmp_path / "shell").mkdir()
    link.calls.setroot(str(tmp_path / "shell"))
    yield link
    link.close()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[AgentLink]:
    link = AgentLink(LocalChannel())
    (tmp_path / "python").mkdir()
    link.calls.setroot(str(tmp_path / "python"))
    yield link
    link.close()


def outcome(call: Callable[[Ops], object], link: AgentLink) -> object:
    try:
        return call(link.calls)
    except CallError as error:
        return f"errno {error.errno}"


STEPS: list[Callable[[Ops], object]] = [
    lambda c: c.create("a file", b"some\0bytes\xff", 0o640),
    lambda c: c.create("a file"),
    lambda c: c.slurp("a file"),
    lambda c: c.hash_file("a file"),
    lambda c: c.mkdir("d", 0o750),
    lambda c: c.mkdir("d"),
    lambda c: c.mkdir("a file/x"),
    lambda c: c.create("d/in", b"1"),
    lambda c: c.rmdir("d"),
    lambda c: c.unlink("d"),
    lambda c: c.symlink("d", "link"),
    lambda c: c.symlink("d", "link"),
    lambda c: c.readlink("link"),
    lambda c: c.lstat("link")["st_mode"],
    lambda c: c.stat("link")["st_mode"],
    lambda c: c.lstat("nothing"),
    lambda c: c.chmod("a file", 0o4711),
    lambda c: c.lstat("a file")["st_mode"],
    lambda c: c.chmod("d", 0o2755),
    lambda c: c.chmod("d", 0o755),
    lambda c: c.lstat("d")["st_mode"],
    lambda c: c.rename("a file", "d/b"),
    lambda c: c.rename("d", "d/b/c"),
    lambda c: c.link("d/b", "hard"),
    lambda c: c.lstat("hard")["st_nlink"],
    lambda c: c.truncate("hard", 3),
    lambda c: c.truncate("nothing", 3),
    lambda c: c.slurp("hard"),
    lambda c: c.overwrite("hard", b"new"),
    lambda c: c.lstat("hard")["st_size"],
    lambda c: c.mkfifo("fifo", 0o622),
    lambda c: [(name, kind) for name, _, kind in c.scandir(".")],
    lambda c: c.listdir("d"),
    lambda c: c.listdir("nothing"),
    lambda c: c.attempts([("rmdir", ["d"]), ("unlink", ["fifo"])]),
    lambda c: c.run(["sh", "-c", "cat; exit 3"], stdin=b"x")["status"],
    lambda c: c.rmtree("d"),
    lambda c: c.listdir("."),
]


def test_it_says_what_the_agent_says(shell: AgentLink, python: AgentLink) -> None:
    missed = 0
    for number, step in enumerate(STEPS):
        theirs = outcome(step, python)
        try:
            ours = outcome(step, shell)
        except CallAbsent as absent:  # reported, never guessed; later steps find the same tree
            assert isinstance(theirs, str) and "no errno" in str(absent), (number, absent)
            missed += 1
            continue
        assert ours == theirs, f"step {number}"
    assert outcome(lambda c: c.mkdir("hard/x"), shell) == f"errno {ENOTDIR}"
    assert outcome(lambda c: c.unlink("nothing"), shell) == f"errno {ENOENT}"
    assert missed <= 1, "errors whose text names no errno"


def test_what_a_call_changed_is_reported_and_looked_at(shell: AgentLink) -> None:
    reply = shell.receive(shell.send("mkdir", ("d",), {}, "main", 30.0, look="plain"), 30.0)
    assert [Path(path).name for path in reply.changed] == ["d"]
    assert reply.seen is not None and [name for name, _ in reply.seen] == ["d", "."]


@pytest.mark.parametrize("op", ["open", "setlk", "mmap", "getdents", "utimensat", "statx"])
def test_what_no_command_expresses_is_absent(shell: AgentLink, op: str) -> None:
    with pytest.raises(CallAbsent, match=f"no Python, and no command expresses {op}"):
        shell.calls.perform(op, "x", 0)


def test_another_user_is_absent(shell: AgentLink) -> None:
    shell.spawn("bob", uid=1000)
    with pytest.raises(CallAbsent, match="further process"):
        shell.calls_with(proc="bob").mkdir("d")


def test_times_are_exact_or_absent(shell: AgentLink, tmp_path: Path) -> None:
    shell.calls.create("f")
    seen = shell.calls.lstat("f")
    if "st_mtime_ns" in seen:
        assert seen["st_mtime_ns"] == (tmp_path / "shell" / "f").stat().st_mtime_ns
    else:
        with pytest.raises(CallAbsent, match="whole seconds"):
            _ = seen["st_mtime_ns"]


def test_nothing_is_moved_out_of_the_directory_of_the_case_or_into_it(shell: AgentLink, tmp_path: Path) -> None:
    """mv(1) copies to another file system and removes the source, where rename(2) fails with EXDEV."""
    stranger = tmp_path / "stranger"
    stranger.write_bytes(b"not the suite's")
    shell.calls.create("f")
    for source, target in (
        (str(stranger), "g"),
        ("f", str(tmp_path / "g")),
        ("f", "../g"),
        (f"../{stranger.name}", "g"),
    ):
        with pytest.raises(CallAbsent, match="copies from one file system to another"):
            shell.calls.rename(source, target)
    assert stranger.read_bytes() == b"not the suite's"
    assert shell.calls.listdir(".") == ["f"]


def test_an_error_that_names_no_errno_is_absent(shell: AgentLink) -> None:
    shell.calls.create("f")
    shell.calls.link("f", "g")
    try:
        shell.calls.rename("f", "g")  # rename(2) succeeds and does nothing; mv(1) refuses, or removes one
    except CallAbsent:
        assert shell.calls.listdir(".") == ["f", "g"]


def test_the_platform_says_how_much_it_can(shell: AgentLink) -> None:
    here = shell.calls.platform()
    assert here["python"] == "" and "of" in here["absent"]["python"]
