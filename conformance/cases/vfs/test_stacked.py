"""The share below other mechanisms of the guest's kernel: bind mounts, namespaces, chroot, Landlock, an overlay, loop
devices, swap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT

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
    """Run a program of the guest to its end and return its output. Undrivable if the guest does not have it."""
    try:
        done = share.inside.run(list(argv), 100)
    except OSError as error:
        if error.errno != ENOENT:
            raise
        raise Undrivable(f"the guest has no {argv[0]}") from None
    equal(f"status of {argv[0]} ({done['stderr'].decode(errors='replace').strip()[-200:]})", done["status"], 0)
    return done["stdout"].decode(errors="replace")


@contextmanager
def mounted(share: Share, *argv: str) -> Iterator[None]:
    """Mount something at the last argument, for the duration of the block."""
    ran(share, "mount", *argv)
    try:
        yield
    finally:
        ran(share, "umount", argv[-1])


@case("STACKED-001", covers=[Twalk, Tlcreate, Twrite], needs=["guest-root"], cached_too=True)
def test_a_bind_mount_of_a_directory(share: Share) -> None:
    """A directory of the share that is mounted elsewhere in it shows the same files, and stays mounted when the
    directory is renamed.
    Source: mount(2) MS_BIND: "makes a file or a directory subtree visible at another point"."""
    root = share.inside.root
    share.inside.mkdir("from", 0o755)
    share.inside.mkdir("to", 0o755)
    with share.without_comparison(), mounted(share, "--bind", f"{root}/from", f"{root}/to"):
        share.inside.create("to/file", b"bound", 0o644)
        equal("content of 'from/file'", share.inside.soon.slurp("from/file"), b"bound", code="content")
        share.inside.rename("from", "moved")
        equal("content of 'to/file' after the rename", share.inside.soon.slurp("to/file"), b"bound", code="content")
    equal("names of 'to' without the mount", share.inside.soon.listdir("to"), [], code="names")
    equal("content of 'moved/file'", share.inside.soon.slurp("moved/file"), b"bound", code="content")


@case("STACKED-002", covers=[Twalk, Tlopen, Tread], needs=["guest-root"], cached_too=True)
def test_a_program_in_a_root_on_the_share(share: Share) -> None:
    """A program runs with its root directory on the share: chroot(2), execve(2) from there, absolute paths in it.
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


@case("STACKED-004", covers=[Twalk], needs=["guest-root"])
def test_a_mount_namespace_of_its_own(share: Share) -> None:
    """What a process mounts on the share in its own mount namespace is seen only there.
    Source: mount_namespaces(7); systemd's PrivateMounts= and ReadOnlyPaths= do so for units."""
    root = share.inside.root
    share.inside.mkdir("from", 0o755)
    share.inside.mkdir("to", 0o755)
    share.inside.create("from/file", b"bound\n", 0o644)
    script = f"mount --bind {root}/from {root}/to && mount -o remount,bind,ro {root}/to && cat {root}/to/file && "
    script += f"if touch {root}/to/new 2>/dev/null; then echo writable; else echo read-only; fi"
    with share.without_comparison():
        said = ran(share, "unshare", "--mount", "sh", "-c", script)
    equal("what a process in the namespace sees", said.splitlines(), ["bound", "read-only"])
    equal("names in 'to' outside of the namespace", share.inside.soon.listdir("to"), [], code="names")
    share.inside.create("from/new", b"", 0o644)


@case("STACKED-005", covers=[Twalk, Tread], needs=["guest-root"])
def test_a_layer_below_an_overlay(share: Share) -> None:
    """The share is the lower layer of an overlay: changes, renames and removals in the overlay are seen there, and the
    layer itself stays unchanged.  Source: Linux Documentation/filesystems/overlayfs.rst: "the lower filesystem can be
    any filesystem supported by Linux"; containers keep their images this way."""
    root = share.inside.root
    for name in ("lower", "upper", "merged"):
        share.inside.mkdir(name, 0o755)
    share.inside.mkdir("lower/d", 0o755)
    for name in ("changed", "removed", "d/kept"):
        share.inside.create(f"lower/{name}", b"lower\n", 0o644)
    before = {name: share.inside.slurp(f"lower/{name}") for name in ("changed", "removed", "d/kept")}
    with share.without_comparison(), mounted(share, "-t", "tmpfs", "tmpfs", f"{root}/upper"):
        ran(share, "mkdir", f"{root}/upper/up", f"{root}/upper/work")
        layers = f"lowerdir={root}/lower,upperdir={root}/upper/up,workdir={root}/upper/work"
        tried = share.inside.run(["mount", "-t", "overlay", "overlay", "-o", layers, f"{root}/merged"])
        if b"unknown filesystem" in tried["stderr"]:
            raise Undrivable("the guest's kernel has no overlayfs")
        equal(f"status of mount -t overlay ({tried['stderr'][-200:]!r})", tried["status"], 0, code="mount")
        try:
            script = (
                "echo more >>changed && rm removed && mv changed renamed && rm -r d && mkdir d && ls -R && cat renamed"
            )
            said = ran(share, "sh", "-c", f"cd {root}/merged && {script}")
            equal("what the overlay shows", said.split(), [".:", "d", "renamed", "./d:", "lower", "more"])
        finally:
            ran(share, "umount", f"{root}/merged")
    after = {name: share.inside.slurp(f"lower/{name}") for name in before}
    equal("the layer below, after the overlay was changed", after, before, code="content")
    equal("names in the layer below", sorted(share.inside.listdir("lower")), ["changed", "d", "removed"], code="names")


@case("STACKED-006", covers=[Twalk, Twrite], needs=["guest-root"], seconds=120, about="agreement")
def test_a_file_system_in_a_file(share: Share) -> None:
    """A file of the share holds a file system that is mounted through a loop device; what is written there lasts until
    the next mount.  Source: loop(4); images of machines and installers are kept on shares."""
    root = share.inside.root
    share.inside.mkdir("mounted", 0o755)
    share.inside.create("image", b"", 0o644)
    share.inside.truncate("image", 4 << 20)
    with share.without_comparison():
        ran(share, "mke2fs", "-q", "-F", "-t", "ext2", f"{root}/image")
        for _ in range(2):
            tried = share.inside.run(["mount", "-o", "loop", f"{root}/image", f"{root}/mounted"])
            if any(text in tried["stderr"] for text in (b"loop device", b"unknown filesystem", b"/dev/loop")):
                raise Undrivable("the guest has no loop devices")
            equal(f"status of mount -o loop ({tried['stderr'][-200:]!r})", tried["status"], 0, code="mount")
            try:
                said = ran(share, "sh", "-c", f"cd {root}/mounted && echo line >>file && cat file")
            finally:
                ran(share, "umount", f"{root}/mounted")
    equal("content of a file there, after the second mount", said, "line\nline\n", code="content")
    share.same(share.content("image"))


@case("STACKED-007", covers=[Twalk, Twrite], needs=["guest-root"])
def test_a_swap_file_is_refused(share: Share) -> None:
    """A swap file on the share is refused, or can be used and released; either way no other file changes.
    Source: swapon(2) EINVAL, "the file ... does not support swapping"; fs/9p has no swap_activate."""
    root = share.inside.root
    share.inside.create("swap", bytes(1 << 20), 0o600)
    share.inside.create("beside", b"abc", 0o644)
    with share.without_comparison():
        ran(share, "mkswap", f"{root}/swap")
        written = share.inside.slurp("swap")
        if share.inside.run(["swapon", f"{root}/swap"])["status"] == 0:
            ran(share, "swapoff", f"{root}/swap")
        else:
            equal("bytes of a swap file that was refused", share.inside.soon.slurp("swap"), written, code="content")
    equal("content of 'beside'", share.inside.soon.slurp("beside"), b"abc", code="content")
