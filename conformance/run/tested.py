"""What was tested, read from the machine: programs by their bytes, the exported file system, the CI job.

A name in a target's TOML proves nothing. These facts are read while the program runs: the file that the process
executes, the libraries that it has loaded from beside it, and the package that owns the unchanged file. Everything is
best effort: unreadable facts stay empty, and no run fails because of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conformance.errors import InfrastructureError, Undrivable
from conformance.evidence.models import Exported, Machine, Program
from guests.agent.link import AgentLink

_OF_THE_SYSTEM: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/libexec")
"""Libraries here come with the distribution; those of a build of one's own lie beside the program."""
_DPKG: Final = Path("/var/lib/dpkg/info")
_SHORT: Final = 10.0
"""Seconds that a program has to say its version."""
_LOADER_ARGUMENT: Final = frozenset({"--library-path", "--inhibit-rpath", "--audit", "--argv0", "--preload"})
"""Options of ld.so that have an argument."""
_LAUNCHERS: Final = frozenset({"nsenter", "chroot", "env", "setsid", "unshare"})


def machine_of(environment: Mapping[str, Any]) -> Machine:
    """The machine that a deployment describes."""
    return Machine(argv=environment.get("argv", []), server_argv=environment.get("server_argv", []))


def programs(argv: Mapping[str, Sequence[str]], processes: Mapping[str, int]) -> dict[str, Program]:
    """Role (device, server, hypervisor) -> the program; `processes` are known pids on this host.

    `argv` names the programs whose process is unknown.
    """
    found: dict[str, Program] = {}
    for role, pid in processes.items():
        with contextlib.suppress(OSError):
            found[role] = _running(pid)
    for role, words in argv.items():
        path = program_of(words)
        if role not in found and path is not None:
            with contextlib.suppress(OSError):
                found[role] = _program(path, path, {})
    return found


def program_of(argv: Sequence[str]) -> Path | None:
    """The program that a command line starts, without its launchers."""
    words = list(argv)
    while words and Path(words[0]).name in _LAUNCHERS:
        if "--" not in words:
            return None
        words = words[words.index("--") + 1 :]
    words = words[_loader(words) :]
    path = shutil.which(words[0]) if words else None
    return Path(path).resolve() if path else None


def _loader(words: Sequence[str]) -> int:
    """How many words of a command line are ld.so's and its options, as where a program of another distribution runs.

    Source: ld.so(8).
    """
    if not words or not re.match(r"ld(-.*)?\.so", Path(words[0]).name):
        return 0
    number = 1
    while number < len(words) and words[number].startswith("--"):
        number += 2 if words[number] in _LOADER_ARGUMENT else 1
    return number if number < len(words) else 0


def _running(pid: int) -> Program:
    shown, readable = Path(os.readlink(f"/proc/{pid}/exe")), Path(f"/proc/{pid}/exe")
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
    start = [str(shown)]
    if number := _loader([str(shown), *words[1:]]):
        start += words[1 : number + 1]
        shown = Path(os.readlink(f"/proc/{pid}/cwd")) / words[number]
        readable = Path(f"/proc/{pid}/root{shown}")
    if _interprets(shown):  # its libraries are not part of what it runs
        return _program(shown, readable, {}, start)
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    beside = {
        path: digest_of(Path(f"/proc/{pid}/root{path}"))
        for path in sorted(set(re.findall(r"(/\S+\.so[.\d]*)$", maps, re.M)))
        if not path.startswith(_OF_THE_SYSTEM)
    }
    return _program(shown, readable, {path: digest for path, digest in beside.items() if path != str(shown)}, start)


def _program(shown: Path, readable: Path, libraries: dict[str, str], start: Sequence[str] = ()) -> Program:
    """`start`: the words that start it, its own path if none are given."""
    return Program(
        path=str(shown),
        sha256=digest_of(readable),
        version=_version(tuple(start) or (str(shown),)),
        package=_package(shown, readable),
        libraries=libraries,
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _interprets(program: Path) -> bool:
    return program.name.startswith(("python", "node", "perl", "ruby"))


@functools.cache
def _version(start: tuple[str, ...]) -> str:
    """The output of `--version`; empty for an interpreter, whose version is not that of its program."""
    return "" if _interprets(Path(start[-1])) else _said([*start, "--version"])


@functools.cache
def _package(shown: Path, readable: Path) -> str:
    """Name and version of the package that owns the file, if the file is unchanged; else empty."""
    owner = _said(["dpkg-query", "-S", str(shown)]) or _said(["dpkg-query", "-S", str(shown).removeprefix("/usr")])
    if not owner:
        return _said(["rpm", "-qf", str(shown)]) if shutil.which("rpm") else ""
    name = owner.partition(": ")[0].partition(",")[0]
    version = _said(["dpkg-query", "-W", "-f", "${Version}", name])
    plain = name.partition(":")[0]
    sums = [file for stem in (name, plain) if (file := _DPKG / f"{stem}.md5sums").is_file()]
    sums += sorted(_DPKG.glob(f"{plain}:*.md5sums"))
    if not sums or not version:
        return ""
    listed = {path: digest for digest, path in _listed(sums[0])}
    with contextlib.suppress(OSError), readable.open("rb") as program:
        own = hashlib.file_digest(program, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if own in (listed.get(str(shown).lstrip("/")), listed.get(str(shown).removeprefix("/usr/"))):
            return f"{plain} {version}"
    return f"{plain} {version}, but the file is not the package's"


def _listed(sums: Path) -> Iterator[tuple[str, str]]:
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, path = line.partition("  ")
        yield digest, path


def _said(argv: list[str]) -> str:
    """The output of a program, stripped; empty if it fails or takes long."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SHORT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()[:2000] if done.returncode == 0 else ""


def exported(outside: AgentLink, root: str) -> Exported | None:
    """The file system of an exported directory, from the machine of `outside`; None if unknown."""
    try:
        found = _mounted(outside.calls.slurp("/proc/self/mountinfo", 1 << 20), root)
    except (OSError, InfrastructureError, Undrivable):  # a share that is not visible outside the guest
        return None
    return _with_properties(found, lambda argv: _run(outside, argv))


def exported_here(root: Path) -> Exported | None:
    """The same of a directory of this machine."""
    with contextlib.suppress(OSError):
        return _with_properties(_mounted(Path("/proc/self/mountinfo").read_bytes(), str(root.resolve())), _said)
    return None


def _run(outside: AgentLink, argv: list[str]) -> str:
    try:
        return str(outside.calls.run(argv)["stdout"].decode(errors="replace"))
    except (OSError, InfrastructureError):
        return ""


def _with_properties(found: Exported | None, run: Callable[[list[str]], str]) -> Exported | None:
    """With the properties of a ZFS dataset that a share shows; those that this ZFS does not know are left out."""
    if found is None or found.type != "zfs":
        return found
    said = run(["zfs", "get", "-H", "-o", "property,value", "all", found.source])
    pairs = (line.split("\t", 1) for line in said.splitlines() if "\t" in line)
    shown = _ZFS_SHOWN.split(",")
    return found.model_copy(update={"properties": {name: value for name, value in pairs if name in shown}})


def _mounted(mountinfo: bytes, root: str) -> Exported | None:
    """The last mount of the longest path that leads to `root`: proc_pid_mountinfo(5)."""
    best: Exported | None = None
    longest = -1
    for line in mountinfo.decode(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        first, second = left.split(), right.split()
        if len(first) < 6 or len(second) < 3:
            continue
        where = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), first[4])
        if (root + "/").startswith(where.rstrip("/") + "/") and len(where) >= longest:
            longest = len(where)
            options = ",".join(dict.fromkeys([*first[5].split(","), *second[2].split(",")]))
            best = Exported(path=root, mount_point=where, type=second[0], source=second[1], options=options)
    return best


_ZFS_SHOWN = "acltype,aclinherit,aclmode,atime,devices,exec,setuid,xattr,recordsize,compression,quota,casesensitivity"


def job_url(environ: Mapping[str, str]) -> str:
    """The page of the CI job that runs this, as its environment names it: GitHub, GitLab, Jenkins, Cirrus, Buildbot."""
    if {"GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"} <= environ.keys():
        server, repository, run = (environ[f"GITHUB_{name}"] for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
        return f"{server}/{repository}/actions/runs/{run}"
    if "CIRRUS_TASK_ID" in environ:
        return f"https://cirrus-ci.com/task/{environ['CIRRUS_TASK_ID']}"
    return next((environ[name] for name in ("CI_JOB_URL", "BUILD_URL", "BUILDBOT_BUILD_URL") if environ.get(name)), "")
