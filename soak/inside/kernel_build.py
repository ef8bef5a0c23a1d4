"""Workload `kernel-build`: unpack a kernel's sources on the share, configure and build them there, repeatedly.

The host has built the same tree with the same tool chain on its own disk. Every object, and vmlinux if that is the
unit, must have the same hash; the compiler's messages must be the same; the sources must be unchanged. Between two
iterations everything that the build made is removed, or the tree is unpacked again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from soak.inside.common import Context, Finding, digest, main
from soak.inside.programs import Done, run

BUILD = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "assay9",
    "KBUILD_BUILD_HOST": "assay9",
    "KBUILD_BUILD_VERSION": "1",
}
"""What would otherwise differ between two builds of one tree; the host builds with the same."""

CALIBRATION = 4
"""Objects of the calibrating call of make, which measures the cost of a call and of an object."""
LEAST = 12
"""Objects in the smallest unit that the calibration may choose."""
STARTING = 60
"""What starting a compiler costs, as if it read so many files more."""
READ_AGAIN = 10
"""One in so many sources is read again inside after a build (all of them are, outside)."""

_ready: dict[str, Any] = {}
"""Of this process: the files of the configured tree. A new process unpacks again: the share may have been cut off."""


def files_below(tree: str) -> set[str]:
    """Paths of all files below that are not directories."""
    found, waiting = set(), [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(os.path.join(tree, below)) as entries:
            for entry in entries:  # the type comes with the name: no call for each file
                path = os.path.join(below, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    found.add(path)
    return found


def differing(tree: str, expected: dict[str, str], tick: Callable[[], object] = int) -> list[str]:
    """Which files of a tree differ from `expected` (path -> hash, or `symlink TARGET`), in words.

    Each directory is opened once: without a cache in the guest every name of a path costs messages.
    """
    wrong, opened, directory = [], None, -1
    try:
        for path in sorted(expected, key=os.path.split):
            tick()
            below, name = os.path.split(path)
            try:
                if below != opened:
                    if directory >= 0:
                        os.close(directory)
                    opened, directory = None, -1
                    directory = os.open(os.path.join(tree, below), os.O_RDONLY | os.O_DIRECTORY)
                    opened = below
                seen = look(name, directory, expected[path].startswith("symlink "))
            except OSError as e:
                seen = str(e)
            if seen != expected[path]:
                wrong.append(f"{path}: {seen} instead of {expected[path]}")
    finally:
        if directory >= 0:
            os.close(directory)
    return wrong


def look(name: str, directory: int, link: bool) -> str:
    """The hash of a file, or the target of a symbolic link, by its name in an open directory."""
    if link:
        return "symlink " + os.readlink(name, dir_fd=directory)
    made = hashlib.sha256()
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory), "rb", buffering=0) as f:
        for part in iter(lambda: f.read(1 << 20), b""):
            made.update(part)
    return made.hexdigest()[:32]


def made(tree: str, before: set[str]) -> dict[str, str]:
    """Hashes of the files of a build: the objects, the configuration, vmlinux."""
    new = files_below(tree) - before
    return {p: digest(os.path.join(tree, p)) for p in sorted(new) if p.endswith(".o") or p == "vmlinux"}


class Build:
    """The tree of one iteration."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tree = os.path.join(context.root, "linux")
        with open(context.config["sources"]) as f:
            self.sources: dict[str, str] = json.load(f)
        self.messages: list[str] = []
        self.objects = 0
        self.first_object = 0.0
        """When the call of make in progress, or the last, began its first object."""

    def make(self, *targets: str) -> Done:
        """Call make; keep its standard error."""
        jobs = self.context.config.get("jobs") or os.cpu_count() or 1
        self.first_object = 0.0
        done = run(self.context, ["make", f"-j{jobs}", *targets], self.tree, BUILD, check=False, progress=self._count)
        self.messages += done.err.decode(errors="replace").splitlines()
        if done.status:
            raise Finding(
                f"make failed with status {done.status}",
                "make {}\n{}".format(" ".join(targets[:40]), done.text[-8000:]),
            )
        return done

    def _count(self, output: bytes) -> None:
        begun = sum(line.startswith((b"  CC ", b"  AS ")) for line in output.split(b"\n"))
        if begun and not self.first_object:
            self.first_object = time.monotonic()
        self.objects += begun
        self.context.alive(self.objects)

    def unpack(self) -> None:
        """Unpack the sources from the archive beside the job's directory on the share, and hash them."""
        archive = self.context.config["archive"]
        if (seen := digest(archive)) != self.context.config["archive_digest"]:
            raise Finding("the archive of the sources reads differently inside", f"{archive}: {seen}")
        _ready.clear()
        if os.path.lexists(self.tree):
            shutil.rmtree(self.tree)
        os.mkdir(self.tree)
        run(self.context, ["tar", "-xf", archive, "--no-same-owner", "-C", self.tree], self.context.root)
        self.check_sources("after unpacking")

    def check_sources(self, when: str, some: random.Random | None = None) -> None:
        """Compare every source file with the archive. Raises Finding.

        With `some` the host reads all files outside, and inside only a few that it selects are read (and every symbolic
        link, which may be a file outside): reading a file of 4 KiB here costs a dozen messages.
        """
        expected, wrong = self.sources, []
        if some is not None:
            wrong = self.context.ask(sources="linux")
            expected = {
                p: h for p, h in self.sources.items() if h.startswith("symlink ") or not some.randrange(READ_AGAIN)
            }
        wrong = wrong or differing(self.tree, expected, lambda: self.context.alive(-1))
        if wrong:
            raise Finding(f"{len(wrong)} sources differ {when}", "\n".join(wrong[:50]))

    def configure(self) -> None:
        """Make the configuration, and all that make needs before the first object."""
        config = self.context.config
        if config.get("configured"):  # it is in the archive: read every Kconfig file, change nothing
            self.make("olddefconfig")
        elif config.get("config_file"):
            shutil.copyfile(config["config_file"], os.path.join(self.tree, ".config"))
            self.make("olddefconfig")
        else:
            self.make(config.get("config", "tinyconfig"))
        self.make("prepare")
        _ready["files"] = files_below(self.tree)
        _ready["messages"] = self.messages

    def clean(self) -> None:
        """Remove files that did not exist after `configure`."""
        for path in files_below(self.tree) - _ready["files"]:
            os.unlink(os.path.join(self.tree, path))

    def unit(self) -> list[str]:
        """The targets of make; chosen by a calibration when the configuration says so."""
        config = self.context.config
        targets: list[str] = config.get("kept", {}).get("unit") or config.get("targets", [])
        if targets:
            return targets
        pool: dict[str, int] = config["pool"]  # the cheapest comes first
        names, costs = list(pool), [STARTING + files for files in pool.values()]
        begun = time.monotonic()
        done = self.make(*names[:CALIBRATION])
        call = max(self.first_object - begun, 0.0)
        each = max(done.seconds - call, 0.01) / sum(costs[:CALIBRATION])
        seconds = config.get("unit_seconds", 180)
        count = LEAST
        while count < len(names) and call + each * sum(costs[: count + 1]) <= seconds:
            count += 1
        targets = names[:count]
        self.context.note(
            f"a call of make costs {call:.1f} s and its first {len(names[:CALIBRATION])} objects "
            f"{done.seconds - call:.1f} s here: the unit is {len(targets)} objects ({targets[0]} ... {targets[-1]}), "
            f"about {call + each * sum(costs[:count]):.0f} s"
        )
        self.context.keep_value("unit", targets)
        return targets

    def compare(self, targets: list[str]) -> int:
        """Compare with the build outside; returns the number of objects. Raises Finding."""
        objects = made(self.tree, _ready["files"])
        objects[".config"] = digest(os.path.join(self.tree, ".config"))
        reference = self.context.ask(targets=targets)
        if objects != reference["objects"]:  # the build outside is cached, and the cache may be damaged
            reference = self.context.ask(targets=targets, afresh=True)
        wrong = [p for p in sorted({*objects, *reference["objects"]}) if objects.get(p) != reference["objects"].get(p)]
        if wrong:
            lines = [f"{p}: {objects.get(p)}, outside {reference['objects'].get(p)}" for p in wrong[:50]]
            raise Finding(
                f"{len(wrong)} of {len(reference['objects'])} objects are not what a build outside makes",
                "\n".join(lines),
                tuple(self.keep(p) for p in wrong[:8] if p in objects),
            )
        said = sorted(set(self.messages) - set(reference["messages"]))
        if said:
            raise Finding("the build printed messages that the build outside did not", "\n".join(said[:50]))
        return len(objects)

    def keep(self, path: str) -> str:
        """Copy an object to the guest's own file system; the name shows where it was."""
        copy = os.path.join(self.context.keep, urllib.parse.quote(path, safe=""))
        shutil.copyfile(os.path.join(self.tree, path), copy)
        return copy


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """One build and its judgement."""
    build = Build(context)
    every = context.config.get("unpack_every", 10)
    fresh = not _ready or (every and context.number % every == 0)
    try:
        if fresh:
            begun = time.monotonic()
            build.unpack()
            unpacked = time.monotonic()
            build.configure()
            took, configured = unpacked - begun, time.monotonic() - unpacked
            context.note(
                f"{len(build.sources)} files unpacked on the share and compared in {took:.0f} s, "
                f"configured in {configured:.0f} s"
            )
        else:
            build.clean()
            build.messages = list(_ready["messages"])
        targets = build.unit()
        build.make(*targets)
        count = build.compare(targets)
        build.check_sources("after the build", rng)
    except BaseException:
        _ready.clear()
        raise
    return {"ops": build.objects, "objects": count, "unpacked": bool(fresh)}


if __name__ == "__main__":
    main(iterate)
