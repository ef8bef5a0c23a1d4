"""Workload `tar`: a tree of every kind of entry, packed, unpacked on the share, packed there and unpacked again.

Names, types, modes, owners, times, links, contents and extended attributes of the last tree must be those of the
first, which was made on the guest's own file system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
from typing import Any

from soak.inside.common import Context, Finding, digest, digest_of, main, manifest
from soak.inside.programs import run

KEEPING = ["--xattrs", "--numeric-owner", "--sort=name", "--format=posix", "--sparse"]


def tree(root: str, rng: random.Random, count: int, fifos: bool, empty: bool, nanoseconds: bool) -> None:
    """Make the tree; with fifos, attributes without a value, and nanosecond times, unless the run excludes them."""
    os.mkdir(root)
    directories: list[str] = [root]
    files: list[str] = []
    for number in range(count):
        ending = rng.choice(["", " with space", "-\u00fc\u4e2d", "\nnl"])
        path = os.path.join(rng.choice(directories), f"n{number:05}{ending}")
        kind = rng.choice(["file"] * 8 + ["directory", "directory", "symlink", "link", "sparse", "empty", "fifo"])
        if kind == "directory":
            os.mkdir(path)
            directories.append(path)
        elif kind == "symlink":
            os.symlink(rng.choice(["n00001", "/nowhere/at all", "../n", "x" * 900]), path)
        elif kind == "link" and files:
            os.link(rng.choice(files), path)
        elif kind == "fifo" and fifos:
            os.mkfifo(path)
        else:
            with open(path, "wb") as f:
                if kind == "sparse":
                    f.seek(rng.randrange(1, 1 << 20))
                if kind != "empty":
                    f.write(bytes(rng.getrandbits(8) for _ in range(64)) * rng.randrange(1, 600))
            files.append(path)
            os.chmod(path, rng.choice([0o644, 0o755, 0o600, 0o444, 0o4755]))
            if os.geteuid() == 0:
                mode = stat.S_IMODE(os.lstat(path).st_mode)
                os.chown(path, rng.choice([0, 1001, 70000]), rng.choice([0, 2000]))
                os.chmod(path, mode)
            with contextlib.suppress(OSError):
                os.setxattr(
                    path, "user.soak", bytes([rng.randrange(256)]) * max(rng.randrange(0, 200), 0 if empty else 1)
                )
        when, fraction = rng.randrange(1_000_000_000, 1_900_000_000), rng.randrange(10**9) if nanoseconds else 0
        os.utime(path, ns=(when * 10**9, when * 10**9 + fraction), follow_symlinks=False)


def described(root: str) -> list[str]:
    """Everything that tar keeps, one line per entry."""
    lines = []
    for directory, below, names in os.walk(root):
        for name in [*below, *names]:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            kind = stat.S_IFMT(found.st_mode)
            line = f"{os.path.relpath(path, root)!r} {found.st_mode:o} {found.st_uid}:{found.st_gid}"
            if kind != stat.S_IFDIR:  # unpacking files into a directory later changes its time
                line += f" {found.st_mtime_ns} {found.st_nlink} links"
            if kind == stat.S_IFREG:
                line += f" {found.st_size} {digest(path)} {attributes(path)}"
            elif kind == stat.S_IFLNK:
                line += f" -> {os.readlink(path)}"
            lines.append(line)
    return sorted(lines)


def attributes(path: str) -> str:
    """The extended attributes of the user namespace."""
    try:
        names = sorted(n for n in os.listxattr(path) if n.startswith("user.soak"))
        return " ".join(f"{n}={os.getxattr(path, n).hex()}" for n in names)
    except OSError as e:
        if e.errno in (errno.ENOTSUP, errno.EPERM):
            return ""
        raise


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """One round trip."""
    own, count = os.path.join(context.keep, "own"), context.config.get("entries", 250)
    shutil.rmtree(own, ignore_errors=True)
    os.mkdir(own)
    with_fifos, with_empty, with_nanoseconds = (
        bool(context.config.get(name, 1)) for name in ("fifos", "empty", "nanoseconds")
    )
    tree(f"{own}/first", rng, count, with_fifos, with_empty, with_nanoseconds)
    first = described(f"{own}/first")
    run(context, ["tar", *KEEPING, "-cf", f"{own}/first.tar", "-C", f"{own}/first", "."], own, limit=1800)
    shared = os.path.join(context.root, "unpacked")
    os.mkdir(shared)
    unpack = ["tar", *KEEPING, "-xpf"]
    run(context, [*unpack, f"{own}/first.tar", "-C", shared], own, limit=1800)
    compare(first, described(shared), "unpacked on the share")
    run(context, ["tar", *KEEPING, "-cf", f"{context.root}/second.tar", "-C", shared, "."], own, limit=1800)
    os.mkdir(f"{own}/second")
    run(context, [*unpack, f"{context.root}/second.tar", "-C", f"{own}/second"], own, limit=1800)
    compare(first, described(f"{own}/second"), "packed on the share and unpacked")
    context.look_outside("unpacked", digest_of(manifest(shared)))
    shutil.rmtree(own)
    return {"ops": count, "bytes": os.path.getsize(f"{context.root}/second.tar")}


def compare(first: list[str], now: list[str], where: str) -> None:
    """Raise Finding with the entries that differ."""
    lost, extra = sorted(set(first) - set(now)), sorted(set(now) - set(first))
    if lost or extra:
        detail = "\n".join([*(f"- {line}" for line in lost[:40]), *(f"+ {line}" for line in extra[:40])])
        raise Finding(f"the tree {where} differs in {max(len(lost), len(extra))} entries", detail)


if __name__ == "__main__":
    main(iterate)
