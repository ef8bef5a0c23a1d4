"""The share under other mechanisms of the guest's kernel: bind mounts, chroot, a loop device, overlayfs, Landlock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.case import case
from conformance.checks import equal
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlopen, Tread, Twalk, Twrite

RESTRICT = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    found = libc.syscall(number, *words)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
READ, LIST = 1 << 2, 1 << 3
try:
    rules = call(444, struct.pack("Q", READ | LIST), 8, 0)
except OSError as error:
    sys.exit(75 if error.errno in (38, 95) else 1)
directory = os.open(sys.argv[1], os.O_PATH)
call(445, rules, 1, struct.pack("<QI", READ | LIST, directory), 0)
os.close(directory)
libc.prctl(38, 1, 0, 0, 0)
call(446, rules, 0)
for path in (sys.argv[1] + "/file", sys.argv[1] + "/sub/file", sys.argv[2]):
    try:
        os.close(os.open(path, os.O_RDONLY))
        print("opened")
    except OSError as error:
        print(error.errno)
print(*sorted(os.listdir(sys.argv[1])))
"""
"""Landlock by its system calls, which no library of the guests has: reading is allowed below one directory only."""
NO_LANDLOCK = 75


def ran(share: Share, *argv: str) -> str:
    """Run a program of the guest to its end; what it printed. Undrivable where the guest does not have it."""
    try:
        done = share.inside.run(list(argv), 100)
    except FileNotFoundError:
        raise Undrivable(f"the guest has no {argv[0]}") from None
    equal(f"status of {argv[0]} ({done['stderr'].decode(errors='replace').strip()[-200:]})", done["status"], 0)
    return done["stdout"].decode(errors="replace")


@contextmanager
def mounted(share: Share, *argv: str) -> Iterator[None]:
    """Mount something at the last word, for the block."""
    ran(share, "mount", *argv)
    try:
        yield
    finally:
        ran(share, "umount", argv[-1])


@case("STACKED-001", covers=[Twalk, Tlcreate, Twrite], needs=["guest-root"], cached_too=True)
def test_a_bind_mount_of_a_directory(share: Share) -> None:
    """A directory of the share that is mounted elsewhere in it shows the same files, and stays when its name is moved.
    Source: mount(2) MS_BIND: "makes a file or a directory subtree visible at another point"."""
    root = share.inside.root
    share.inside.mkdir("from", 0o755)
    share.inside.mkdir("to", 0o755)
    with share.without_comparison(), mounted(share, "--bind", f"{root}/from", f"{root}/to"):
        share.inside.create("to/file", b"bound", 0o644)
        equal("content of 'from/file'", share.inside.slurp("from/file"), b"bound", code="content")
        share.inside.rename("from", "moved")
        equal("content of 'to/file' after the rename", share.inside.slurp("to/file"), b"bound", code="content")
    equal("names of 'to' without the mount", share.inside.listdir("to"), [], code="names")
    equal("content of 'moved/file'", share.inside.slurp("moved/file"), b"bound", code="content")


@case("STACKED-002", covers=[Twalk, Tlopen, Tread], needs=["guest-root"], cached_too=True)
def test_a_program_in_a_root_on_the_share(share: Share) -> None:
    """A program runs with its root directory on the share: chroot(2), execve(2) from there, absolute names below it.
    Source: chroot(2)."""
    share.inside.mkdir("root", 0o755)
    share.inside.mkdir("root/bin", 0o755)
    share.inside.create("root/file", b"in the root\n", 0o644)
    busybox = share.inside.which("busybox")
    if busybox is None:
        raise Undrivable("the guest has no busybox")
    ran(share, "cp", busybox, f"{share.inside.root}/root/bin/busybox")
    root = f"{share.inside.root}/root"
    said = ran(share, "chroot", root, "/bin/busybox", "sh", "-c", "/bin/busybox cat /file; echo /*; cd /..; pwd")
    equal("what a program sees of its root", said.splitlines(), ["in the root", "/bin /file", "/"])


@case("STACKED-003", covers=[Tlopen], needs=["guest-root"], cached_too=True)
def test_landlock_allows_what_is_below_a_directory(share: Share) -> None:
    """A process that restricts itself by Landlock to a directory of the share still reads what is below it, and
    nothing beside it.
    Source: landlock(7): "a rule ... for a file hierarchy"; Linux's client makes a new inode when a name is looked up
    again, and a rule holds the old one."""
    share.inside.mkdir("allowed", 0o755)
    share.inside.mkdir("allowed/sub", 0o755)
    for path in ("allowed/file", "allowed/sub/file", "beside"):
        share.inside.create(path, b"x", 0o644)
    root = share.inside.root
    done = share.inside.run(["python3", "-c", RESTRICT, f"{root}/allowed", f"{root}/beside"])
    if done["status"] == NO_LANDLOCK:
        raise Undrivable("the guest's kernel has no Landlock")
    said = done["stdout"].decode(errors="replace").split()
    equal("what a restricted process may open, then what it lists", said, ["opened", "opened", "13", "file", "sub"])
