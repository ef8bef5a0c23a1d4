"""The build outside: the same tree, the same tool chain (the guest's own root, entered by chroot), the host's disk.

All mounts are made in a mount namespace that ends with the build, so none is left over.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from guests.cache.cached import Cached
from guests.host.files import remove_tree, require_space
from guests.host.processes import dying_with_parent
from guests.host.progress import Progress
from soak.inside.common import digest
from soak.inside.kernel_build import BUILD, files_below, made
from soak.inside.programs import SAFE
from soak.workloads.kernel_source import unpack

ROOT_MB = 1000
"""Room for the guest's root, unpacked (measured 0.5 GB with the compiler)."""

ENTER = """set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/dev"
for node in null zero full random urandom; do
    : > "$ROOT/dev/$node"
    mount --bind "/dev/$node" "$ROOT/dev/$node"
done
mount --bind "$TREE" "$ROOT$PLACE"
exec chroot "$ROOT" /bin/sh -c 'cd "$PLACE" && exec "$@"' sh "$@"
"""
"""Runs in namespaces of its own. Paths come in the environment, the command as arguments."""


KEPT = "kept.json"
"""In a reference's directory: the hash of each file there that verdicts rest on."""


def keep(directory: Path, *names: str) -> None:
    """Record the content of these files of a reference."""
    kept = directory / KEPT
    listed = json.loads(kept.read_text()) if kept.is_file() else {}
    new = kept.with_suffix(".new")
    new.write_text(json.dumps(listed | {name: digest(str(directory / name)) for name in names}))
    new.rename(kept)


def damage(directory: Path) -> str:
    """Which file of a reference has changed; empty if none has, or nothing was recorded yet."""
    if not directory.is_dir():
        return ""
    try:
        listed: dict[str, str] = json.loads((directory / KEPT).read_text())
        return next((f"{n} has changed" for n, seen in listed.items() if digest(str(directory / n)) != seen), "")
    except OSError as e:
        return f"{Path(e.filename or directory).name}: {e.strerror}"
    except (ValueError, AttributeError, RecursionError):
        return f"{KEPT} is not a list of its files"


@dataclass(frozen=True, slots=True)
class ToolChain:
    """Where the compiler of the builds is: the root of a guest image, or this host if `root` is None."""

    root: Path | None
    place: str
    """The path of the tree inside the guest: a path that gets into an object must be the same in both."""

    def run(self, tree: Path, argv: list[str]) -> tuple[int, str, str]:
        """Run a command in the tree; returns status, standard output, standard error."""
        environment = {**SAFE, **BUILD}
        if self.root is not None:
            (self.root / self.place.lstrip("/")).mkdir(parents=True, exist_ok=True)
            apart = [
                "unshare",
                *(["--user", "--map-root-user"] if os.geteuid() != 0 else []),
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--",
                "/bin/sh",
                "-c",
                ENTER,
                "sh",
            ]
            argv = [*apart, *argv]
            environment |= {"ROOT": str(self.root), "TREE": str(tree), "PLACE": self.place}
        done = subprocess.run(
            dying_with_parent(argv),
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def unpacked_root(squashfs: Path, build_id: str, cache: Path, progress: Progress) -> Path:
    """The root file system of a guest image as a directory, made once. Raises InfrastructureError."""
    root = cache / f"root-{build_id}"

    def make(directory: Path) -> None:
        require_space(cache, ROOT_MB, "unpacking the guest's root for the build outside")
        for old in cache.glob("root-*"):
            if old != root:
                remove_tree(old)
        argv = ["unsquashfs", "-no-xattrs", "-quiet", "-no-progress", "-force", "-dest", str(directory), str(squashfs)]
        done = subprocess.run(dying_with_parent(argv), capture_output=True, check=False)
        if not (directory / "usr/bin").is_dir():
            words = done.stderr.decode(errors="replace").strip()[-300:]
            raise InfrastructureError(f"unsquashfs failed: {words}", "install squashfs-tools")

    Cached("the guest's root for the build outside", root, ("etc/passwd",)).ensure(make, progress)
    return root


class Reference:
    """A tree that is configured and built outside, in its own directory."""

    def __init__(self, directory: Path, tools: ToolChain, config: str, config_file: bytes) -> None:
        self.directory, self.tree, self._tools = directory, directory / "linux", tools
        self._config, self._config_file = config, config_file

    def make(self, *targets: str) -> list[str]:
        """Call make; returns its standard error. Raises InfrastructureError."""
        status, out, err = self._tools.run(self.tree, ["make", f"-j{os.cpu_count() or 1}", *targets])
        if status:
            lines = [line for line in (out + err).splitlines() if "rror" in line] or (out + err).splitlines()
            (self.directory / "make.log").write_text(out + err)
            raise InfrastructureError(
                f"the build outside failed at make {' '.join(targets[:3])}: {lines[0][:200] if lines else status}",
                f"see {self.directory / 'make.log'}; is it a kernel that this compiler can build?",
            )
        return err.splitlines()

    def configure(self) -> None:
        """Configure, and remember the files then. Does nothing if it has been done."""
        if (self.directory / "configured.json").is_file():
            return
        if self._config_file:
            (self.tree / ".config").write_bytes(self._config_file)
        said = self.make("olddefconfig" if self._config_file else self._config)
        said += self.make("prepare")
        files = sorted(files_below(str(self.tree)))
        (self.directory / "configured.json").write_text(json.dumps({"files": files, "messages": said}))
        keep(self.directory, "configured.json")

    def made_by_configuring(self, below: tuple[str, ...]) -> list[str]:
        """Files that configuring made and whose paths begin with the prefix."""
        configured = json.loads((self.directory / "configured.json").read_text())
        had = set(json.loads((self.directory / "sources.json").read_text()))
        return [path for path in configured["files"] if path.startswith(below) and path not in had]

    def unpack_again(self, archive: Path, targets: list[str]) -> None:
        """Remove what was built and configured, and unpack the sources again."""
        remove_tree(self.tree)
        for old in (self._answer(targets), self.directory / "configured.json"):
            old.unlink()
        unpack(archive, self.tree)

    def _answer(self, targets: list[str]) -> Path:
        key = hashlib.sha256(json.dumps(targets).encode()).hexdigest()[:16]
        return self.directory / f"reference-{key}.json"

    def build(self, targets: list[str]) -> dict[str, Any]:
        """Hashes of the objects, and the compiler's messages, for these targets of make; kept for the next time.

        Existing objects of other units are built again, because the answer is only about this unit.
        """
        answer = self._answer(targets)
        if not answer.is_file():
            self.configure()
            configured = json.loads((self.directory / "configured.json").read_text())
            before = set(configured["files"])
            for path in files_below(str(self.tree)) - before:
                (self.tree / path).unlink()
            said = configured["messages"] + self.make(*targets)
            objects = made(str(self.tree), before)
            objects[".config"] = digest(str(self.tree / ".config"))
            temporary = answer.with_suffix(".new")
            temporary.write_text(json.dumps({"objects": objects, "messages": said}))
            temporary.rename(answer)
            keep(self.directory, answer.name)
        loaded: dict[str, Any] = json.loads(answer.read_text())
        return loaded
