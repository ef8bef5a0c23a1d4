"""Mounts that property cases make on the host, below the export; each is undone when its block ends.

They live in the run's own mount namespace (see `conformance.sut.qemu.deployment`): nobody else sees them, and a killed
run leaves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.checks import equal, require_equal
from conformance.errors import SuiteError, Undrivable
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from guests.agent.payload.values import Ended

MS_REMOUNT, MS_BIND, MNT_DETACH = 32, 4096, 2
FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "strictatime": 1 << 24}
"""Mount flags of linux/mount.h by their names in /proc/mounts, which shows no strictatime."""

LIKE_ZFS = {"setuid=off": "nosuid", "devices=off": "nodev"}
"""Properties of ZFS that a mount of Linux has a flag for.  Source: zfsprops(7), setuid, devices."""


def said(done: Ended) -> str:
    """What a program wrote to standard error."""
    return done["stderr"].decode(errors="replace").strip()


def succeeded(what: str, done: Ended) -> bool:
    """The program ended with status 0; the finding shows its standard error."""
    return equal(f"exit status of {what} ({said(done) or 'nothing said'})", done["status"], 0)


def must_succeed(what: str, done: Ended, *, code: str = "value") -> None:
    """Like `succeeded`, but a failure ends the case."""
    require_equal(f"exit status of {what} ({said(done) or 'nothing said'})", done["status"], 0, code=code)


def must_run(vantage: Vantage, *argv: str) -> str:
    """Run a program that the suite needs and return its output. A failure is undrivable: this host or guest cannot do
    it."""
    done = vantage.run(list(argv))
    if done["status"] != 0:
        raise Undrivable(f"{vantage.name}: {' '.join(argv[:4])} ...: {said(done)}")
    return str(done["stdout"].decode(errors="replace"))


@contextmanager
def tmpfs(share: Share, where: str, options: str = "size=4m") -> Iterator[None]:
    """A small file system on the host, mounted on the case's new directory `where`."""
    share.outside.mkdir(where)
    path = f"{share.outside.root}/{where}"
    if (host := share.mounted.host_mounts) is not None:
        size = options.removeprefix("size=")
        if "," in size:
            raise Undrivable(f"the commands of the target make no file system with {options}")
        host.small(path, size)
    else:
        mounted(share.outside, "assay9", path, "tmpfs", 0, f"mode=777,{options}")
    try:
        yield
    finally:
        unmounted(share, path)


@contextmanager
def dataset(share: Share, where: str, setting: str) -> Iterator[None]:
    """A new file system on the host with that property of ZFS, mounted on the case's new directory `where`.

    On a host without ZFS: a file system in memory, mounted with the equivalent flag."""
    share.outside.mkdir(where)
    path = f"{share.outside.root}/{where}"
    if (host := share.mounted.host_mounts) is not None:
        host.dataset(path, setting)
    elif setting in LIKE_ZFS:
        mounted(share.outside, "assay9", path, "tmpfs", FLAGS[LIKE_ZFS[setting]], "mode=777,size=4m")
    else:
        raise Undrivable(f"this host makes no file system with {setting}")
    try:
        yield
    finally:
        unmounted(share, path)


@contextmanager
def bound(share: Share, where: str, flag: str) -> Iterator[None]:
    """The case's directory `where` bound to itself on the host, with that mount flag."""
    path = f"{share.outside.root}/{where}"
    if (host := share.mounted.host_mounts) is not None:
        host.bind(path, flag)
    else:
        mounted(share.outside, path, path, "", MS_BIND)
    try:
        if host is None:
            _remount(share.outside, path, flag)
        yield
    finally:
        unmounted(share, path)


def _remount(outside: Vantage, path: str, flag: str) -> None:
    mounted(outside, path, path, "", MS_REMOUNT | MS_BIND | FLAGS[flag])
    shown = [options for _, at, _, options in outside.mounts() if at == path]
    if flag not in shown[-1].split(",") and flag != "strictatime":
        raise SuiteError(f"/proc/mounts says {shown[-1]}: {flag} is not in force")


@contextmanager
def loop_mounted(share: Share, where: str, image: str, *options: str) -> Iterator[None]:
    """A file of the case that holds a file system, mounted on the host through a loop device that frees itself."""
    if share.mounted.host_mounts is not None:
        raise Undrivable("the commands of the target mount no file through a loop device")
    share.outside.mkdir(where)
    root = share.outside.root
    must_run(share.outside, "mount", "-o", ",".join(("loop", *options)), f"{root}/{image}", f"{root}/{where}")
    try:
        yield
    finally:
        unmounted(share, f"{root}/{where}")


def mounted(vantage: Vantage, source: str, path: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2), because mount(8) costs an emulated guest a fork. A failure is undrivable: this guest cannot do it."""
    try:
        vantage.mount(source, path, kind, flags, data)
    except OSError as e:
        raise Undrivable(f"{vantage.name}: mount of {kind or source}: {e.strerror}") from e


def unmounted(share: Share, path: str) -> None:
    """Detach a mount of the host at once; it ends when its last descriptor is closed."""
    if (host := share.mounted.host_mounts) is not None:
        host.unmount(path)
    else:
        share.outside.umount2(path, MNT_DETACH)
