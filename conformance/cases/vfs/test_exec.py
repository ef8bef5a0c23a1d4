"""execve(2) of programs and scripts on the share, libraries mapped from it, set-user-ID programs, busy program
files.
"""

from __future__ import annotations

import os
from errno import EACCES, ELIBBAD, ENOENT, ENOEXEC, ENOTDIR, ETXTBSY
from typing import Any

import pytest

from conformance.case import FRESH, case
from conformance.cases.vfs.outcomes import flush
from conformance.checks import equal, holds, require_equal
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tlopen, Tread, Treadlink

ST_NOSUID, ST_NOEXEC = 2, 8
EXECUTABLE = 0o755


def place(share: Share, program: str, name: str, mode: int = EXECUTABLE) -> None:
    """Copy a program of the guest onto the share."""
    if share.inside.statvfs(".")["f_flag"] & ST_NOEXEC:
        raise Undrivable("the share is mounted noexec")
    path = share.inside.which(program)
    if path is None:
        raise Undrivable(f"the guest has no {program}")
    with share.without_comparison():
        share.inside.create(name)
        copied = share.inside.run(["/bin/cp", path, f"{share.inside.root}/{name}"])
    require_equal("exit status and errors of cp(1) onto the share", (copied["status"], copied["stderr"]), (0, b""))
    flush(share, name)
    share.inside.chmod(name, mode)
    share.same(share.content(name))


def runs(what: str, vantage: Vantage, argv: list[str], output: bytes, *, status: int = 0, **kw: Any) -> None:
    """The program runs, ends with this exit status, writes exactly this output, and nothing to standard error."""
    done = vantage.run(argv, **kw)
    equal(f"exit status of {what} (errors: {done['stderr'][:200]!r})", done["status"], status)
    equal(f"output of {what}", done["stdout"], output, code="content")
    equal(f"errors of {what}", done["stderr"], b"")


@case("EXEC-001", covers=[Tlopen, Tread], cached_too=True, about="agreement")
def test_program_runs(share: Share) -> None:
    """A program copied onto the share runs from there as from its original place, twice.
    Source: execve(2); known defects: UTM#5997 (SIGSEGV of programs on the share)."""
    place(share, "cat", "cat")
    for text in (b"first", b"second " * 20_000):
        runs(f"./cat of {len(text)} bytes", share.inside, ["./cat"], text, stdin=text)


@case("EXEC-002", covers=[Tread], about="agreement")
def test_larger_program_runs(share: Share) -> None:
    """A program of more than a megabyte, paged in as it runs, works from the share.
    Source: execve(2); mmap(2); known defect: UTM#5997."""
    place(share, "bash", "bash")
    code = "n=0; for i in {1..100}; do ((n += i)); done; printf '%05d\\n' $n"
    runs("./bash", share.inside, ["./bash", "--norc", "-c", code], b"05050\n")


@case("EXEC-003", covers=[Tlopen, Tread])
@pytest.mark.parametrize("way", ["#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env -S sh"], ids=["sh", "sh-e", "env"])
def test_script_runs(share: Share, way: str) -> None:
    """A script on the share runs under its interpreter, which gets the script's name and arguments.
    Source: execve(2) "Interpreter scripts"."""
    share.inside.create("script", f'{way}\necho "$(basename "$0") $1"\nexit 7\n'.encode(), EXECUTABLE)
    flush(share, "script")
    runs("./script", share.inside, ["./script", "one"], b"script one\n", status=7)


@case("EXEC-004", covers=[Tlopen], caches=FRESH)
def test_script_changed_outside(share: Share) -> None:
    """A script that the host has changed runs with its new content.  Source: execve(2); POSIX execve."""
    share.outside.create("script", b"#!/bin/sh\necho old\n", EXECUTABLE)
    runs("the script", share.inside, ["./script"], b"old\n")
    share.outside.overwrite("script", b"#!/bin/sh\necho new and longer\n")
    runs("the script that the host has changed", share.inside, ["./script"], b"new and longer\n")


@case("EXEC-005")
def test_no_execute_permission(share: Share) -> None:
    """execve(2) of a file without any execute bit fails with EACCES, even for root; of one that only its owner may
    execute it fails for others.
    Source: execve(2) EACCES; POSIX execve; path_resolution(7): root needs one execute bit."""
    share.inside.create("script", b"#!/bin/sh\necho hello\n", 0o644)
    bob = share.inside.spawn("bob", uid=1001)
    share.inside.refuses(EACCES).run(["./script"])
    bob.refuses(EACCES).run(["./script"])
    share.inside.chmod("script", 0o744)
    runs("a script that its owner may execute, by root", share.inside, ["./script"], b"hello\n")
    bob.refuses(EACCES).run(["./script"])


@case("EXEC-006")
def test_what_is_no_program(share: Share) -> None:
    """execve(2) of a directory fails with EACCES, of a file in no known format with ENOEXEC, of a script
    without its interpreter with ENOENT, of a missing name with ENOENT, below a file with ENOTDIR.
    Source: execve(2) ERRORS."""
    share.inside.mkdir("dir")
    share.inside.create("garbage", b"\x01\x02\x03 no program", EXECUTABLE)
    share.inside.create("empty", b"", EXECUTABLE)
    share.inside.create("script", b"#!/no/such/interpreter\n", EXECUTABLE)
    share.inside.refuses(EACCES).run(["./dir"])
    share.inside.refuses(ENOEXEC).run(["./garbage"])
    share.inside.refuses(ENOEXEC).run(["./empty"])
    share.inside.refuses(ENOENT).run(["./script"])
    share.inside.refuses(ENOENT).run(["./nobody"])
    share.inside.refuses(ENOTDIR).run(["./garbage/x"])


@case("EXEC-007", about="agreement")
def test_running_program_cannot_be_written(share: Share) -> None:
    """While a program runs, its file cannot be opened for writing or truncated (ETXTBSY); afterwards it can.
    Source: open(2) ETXTBSY; truncate(2) ETXTBSY."""
    place(share, "sleep", "sleep")
    runner = share.inside.spawn("runner")
    pid = runner.start_program(["./sleep", "30"])
    share.inside.refuses(ETXTBSY).open("sleep", os.O_WRONLY)
    share.inside.refuses(ETXTBSY).truncate("sleep", 0)
    runner.end_program(pid)
    share.inside.close(share.inside.open("sleep", os.O_WRONLY))
    share.same(share.content("sleep"))


@case("EXEC-008", about="agreement")
def test_program_open_for_writing_cannot_run(share: Share) -> None:
    """execve(2) of a file that is open for writing fails with ETXTBSY (only Linux 6.11 and 6.12 run it); once the file
    is closed, it runs.
    Source: execve(2) ETXTBSY; Linux 2a010c412853 (6.11) dropped the refusal, 3b832035387f (6.13) brought it
    back."""
    place(share, "true", "true")
    fd = share.inside.open("true", os.O_WRONLY)
    release = tuple(int(n) for n in share.inside.uname()[2].split("-")[0].split(".")[:2])
    if release not in ((6, 11), (6, 12)):
        share.inside.refuses(ETXTBSY).run(["./true"])
    share.inside.close(fd)
    runs("./true once it is closed", share.inside, ["./true"], b"")


@case("EXEC-009", covers=[Tlopen], needs=("passthrough-ownership",), about="agreement")
def test_set_user_id_program(share: Share) -> None:
    """A program with the set-user-ID or set-group-ID bit runs with its owner's or group's identity.
    Source: execve(2) "the effective user ID of the calling process is changed to that of the owner"."""
    place(share, "id", "id")
    if share.inside.statvfs(".")["f_flag"] & ST_NOSUID:
        raise Undrivable("the share is mounted nosuid")
    bob = share.inside.spawn("bob", uid=1001, gid=1001)
    runs("id -u without set-ID bits", bob, ["./id", "-u"], b"1001\n")
    share.inside.chown("id", 1002, 1003)
    share.inside.chmod("id", 0o4755)
    runs("id -u with the set-user-ID bit", bob, ["./id", "-u"], b"1002\n")
    runs("id -u -r with the set-user-ID bit", bob, ["./id", "-u", "-r"], b"1001\n")
    share.inside.chmod("id", 0o2755)
    runs("id -g with the set-group-ID bit", bob, ["./id", "-g"], b"1003\n")
    share.inside.chmod("id", 0o755)
    runs("id -u after the bits were cleared", bob, ["./id", "-u"], b"1001\n")


@case("EXEC-010", covers=[Tread], cached_too=True)
def test_library_is_mapped_from_the_share(share: Share) -> None:
    """The dynamic loader maps a library from the share, and the program that uses it runs.
    Source: ld.so(8) LD_PRELOAD; mmap(2) MAP_PRIVATE with PROT_EXEC."""
    library = share.inside.loaded_library()
    if library is None:
        raise Undrivable("the guest's agent has no library loaded that could be copied")
    with share.without_comparison():
        share.inside.create("lib.so")
        share.inside.run(["/bin/cp", library, f"{share.inside.root}/lib.so"])
    flush(share, "lib.so")
    preloaded = {"LD_PRELOAD": f"{share.inside.root}/lib.so", "LC_ALL": "C"}
    done = share.inside.run(["/bin/cat", "/proc/self/maps"], env=preloaded)
    equal("exit status and errors of the program", (done["status"], done["stderr"]), (0, b""))
    maps = [line.split()[-1].decode() for line in done["stdout"].splitlines()]
    holds("the library is mapped from the share", f"{share.inside.root}/lib.so" in maps, seen=sorted(set(maps)))


@case("EXEC-011", covers=[Treadlink])
def test_program_through_a_link(share: Share) -> None:
    """A program runs through a symbolic link to it and through a hard link.
    Source: execve(2); path_resolution(7)."""
    share.inside.create("script", b"#!/bin/sh\necho hello\n", EXECUTABLE)
    share.inside.symlink("script", "soft")
    share.inside.link("script", "hard")
    for name in ("./soft", "./hard"):
        runs(name, share.inside, [name], b"hello\n")


@case("EXEC-012")
def test_no_search_permission(share: Share) -> None:
    """execve(2) below a directory that the user may not search fails with EACCES.
    Source: execve(2) EACCES."""
    share.inside.mkdir("dir", 0o700)
    share.inside.create("dir/script", b"#!/bin/sh\n", 0o755)
    share.inside.spawn("bob", uid=1001).refuses(EACCES).run(["dir/script"])


@case("EXEC-013", about="agreement")
def test_executable_only(share: Share) -> None:
    """A user can run a program with execute but no read permission (mode 0711), and still cannot read it.
    Source: POSIX execve: execute permission is all that is asked for; path_resolution(7)."""
    place(share, "true", "true", 0o711)
    bob = share.inside.spawn("bob", uid=1001)
    runs("a program of mode 0711 by another user", bob, ["./true"], b"")
    bob.refuses(EACCES).open("true")


@case("EXEC-014", about="agreement")
def test_truncated_program(share: Share) -> None:
    """A truncated program is refused with ENOEXEC (or EACCES, ENOENT, ELIBBAD, depending on what is missing) or dies of
    a signal; the guest keeps working.
    Source: execve(2) ENOEXEC, ELIBBAD; Linux fs/binfmt_elf.c."""
    place(share, "true", "true")
    share.inside.truncate("true", 100)
    share.inside.refuses(ENOEXEC, ELIBBAD, because="fs/binfmt_elf.c: program headers cannot be read").run(["./true"])
