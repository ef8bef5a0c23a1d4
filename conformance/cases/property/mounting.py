"""Mounts that property cases make on the host, below the export; each is undone when its block ends.

They live in the mount namespace of the run's own (see `conformance.targets.qemu`): nobody else sees
them, and a killed run leaves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.errors import SuiteError, Undrivable
from conformance.share import Share
from conformance.vantage import Vantage


def said(done: dict[str, object]) -> str:
    """What a program wrote to standard error."""
    raw = done["stderr"]
    return raw.decode(errors="replace").strip() if isinstance(raw, bytes) else str(raw)


def must_run(vantage: Vantage, *argv: str) -> str:
    """Run a program of the suite's own; its output. Undrivable where it fails: this host or guest cannot do it."""
    done = vantage.run(list(argv))
    if done["status"] != 0:
        raise Undrivable(f"{vantage.name}: {' '.join(argv[:4])} ...: {said(done)}")
    return str(done["stdout"].decode(errors="replace"))


@contextmanager
def tmpfs(share: Share, where: str, options: str = "size=4m") -> Iterator[None]:
    """A small file system on the host, mounted on the new directory `where` of the case's."""
    share.outside.mkdir(where)
    path = f"{share.outside.root}/{where}"
    must_run(share.outside, "mount", "-t", "tmpfs", "-o", f"mode=777,{options}", "assay9", path)
    try:
        yield
    finally:
        unmounted(share.outside, path)


@contextmanager
def bound(share: Share, where: str, flags: str) -> Iterator[None]:
    """The case's directory `where` bound to itself on the host, with those mount flags."""
    path = f"{share.outside.root}/{where}"
    must_run(share.outside, "mount", "--bind", path, path)
    try:
        must_run(share.outside, "mount", "-o", f"remount,bind,{flags}", path)
        shown = [options for _, at, _, options in share.outside.mounts() if at == path]
        missing = set(flags.split(",")) - set(shown[-1].split(",")) - {"strictatime"}
        if missing:
            raise SuiteError(f"/proc/mounts says {shown[-1]}: {missing} not in force")
        yield
    finally:
        unmounted(share.outside, path)


@contextmanager
def loop_mounted(share: Share, where: str, image: str, *options: str) -> Iterator[None]:
    """A file of the case's with a file system in it, mounted on the host through a loop device that frees itself."""
    share.outside.mkdir(where)
    root = share.outside.root
    must_run(share.outside, "mount", "-o", ",".join(("loop", *options)), f"{root}/{image}", f"{root}/{where}")
    try:
        yield
    finally:
        unmounted(share.outside, f"{root}/{where}")


def unmounted(vantage: Vantage, path: str) -> None:
    """Take a mount off its place at once; it ends when the last descriptor on it is closed."""
    must_run(vantage, "umount", "-l", path)
