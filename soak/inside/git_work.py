"""Workload `git`: commits, branches, a merge, clone, gc and fsck, with a model of every file.

The whole history depends on the seed, dates and names included, so its last commit must have the same id as with the
same history on the guest's own file system: any wrong byte changes the id. Then every file of the clone is compared
with the model, and fsck must find nothing.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import Any

from soak.inside.common import Context, Finding, generator, main
from soak.inside.programs import run

ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "gc.auto",
    "GIT_CONFIG_VALUE_1": "0",
    "GIT_CONFIG_KEY_2": "init.defaultBranch",
    "GIT_CONFIG_VALUE_2": "main",
}


class History:
    """A repository that grows by the seed, and the expected content of its files."""

    def __init__(self, context: Context, place: str, rng: random.Random) -> None:
        self.context, self.place, self.rng = context, place, rng
        self.files: dict[str, bytes] = {}
        self.number = self.commits = 0

    def git(self, *words: str, cwd: str = "") -> str:
        second = 1_700_000_000 + self.commits * 60
        dates = {"GIT_AUTHOR_DATE": f"{second} +0000", "GIT_COMMITTER_DATE": f"{second} +0000"}
        return run(self.context, ["git", *words], cwd or self.place, {**ENV, **dates}, limit=1800).text

    def change(self) -> None:
        """Create, replace, append to, move or remove a file."""
        verb = self.rng.choice(["new", "new", "replace", "append", "move", "remove"]) if self.files else "new"
        name = f"d{self.rng.randrange(5)}/f{self.number:05}" if verb in ("new", "move") else ""
        self.number += 1
        old = self.rng.choice(sorted(self.files)) if verb != "new" else ""
        data = bytes(self.rng.getrandbits(8) for _ in range(self.rng.randrange(1, 120))) * self.rng.randrange(1, 60)
        if verb == "move":
            self.files[name] = self.files.pop(old)
            os.makedirs(os.path.join(self.place, os.path.dirname(name)), exist_ok=True)
            os.rename(os.path.join(self.place, old), os.path.join(self.place, name))
        elif verb == "remove":
            del self.files[old]
            os.unlink(os.path.join(self.place, old))
        else:
            name = name or old
            self.files[name] = data if verb != "append" else self.files[name] + data
            path = os.path.join(self.place, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "ab" if verb == "append" else "wb") as f:
                f.write(data)

    def commit(self, changes: int) -> None:
        for _ in range(changes):
            self.change()
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", f"change {self.commits}")
        self.commits += 1

    def live(self, commits: int) -> str:
        """Make the whole history; returns the id of its last commit."""
        os.mkdir(self.place)
        self.git("init", "-q")
        for number in range(commits):
            self.commit(self.rng.randrange(1, 8))
            if number == commits // 2:
                self.git("branch", "side")
                self.git("checkout", "-q", "side")
                extra = f"side{number}"
                with open(os.path.join(self.place, extra), "wb") as f:
                    f.write(b"side\n")
                self.git("add", "-A")
                self.git("commit", "-q", "-m", "side")
                self.git("checkout", "-q", "main")
                self.commit(2)
                self.git("merge", "-q", "--no-ff", "-m", "merge", "side")
                self.files[extra] = b"side\n"
        return self.git("rev-parse", "HEAD").strip()


def compare(place: str, files: dict[str, bytes]) -> None:
    """Compare every file of a checkout with the model."""
    seen = {}
    for directory, below, names in os.walk(place):
        if ".git" in below:
            below.remove(".git")
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as f:
                seen[os.path.relpath(path, place)] = f.read()
    if seen.keys() != files.keys():
        raise Finding("the clone has other files than the model", f"{sorted(seen.keys() ^ files.keys())[:40]}")
    for name, data in files.items():
        if seen[name] != data:
            raise Finding(f"{name} of the clone has another content", f"{len(seen[name])} bytes, {len(data)} expected")


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """One history, on the share and on the guest's own file system."""
    seed, commits = rng.getrandbits(48), context.config.get("commits", 12)
    own = os.path.join(context.keep, "own")
    shutil.rmtree(own, ignore_errors=True)
    reference = History(context, own, generator(seed)).live(commits)
    shutil.rmtree(own)
    shared = History(context, os.path.join(context.root, "work"), generator(seed))
    made = shared.live(commits)
    if made != reference:
        raise Finding("the history has another id than on the guest's own file system", f"{made}, expected {reference}")
    shared.git("fsck", "--full", "--strict")
    clone = os.path.join(context.root, "clone")
    shared.git("clone", "-q", "--no-hardlinks", shared.place, clone)
    shared.git("gc", "-q", "--prune=now", "--aggressive", cwd=clone)
    shared.git("repack", "-adq", cwd=shared.place)
    for place in (shared.place, clone):
        shared.git("fsck", "--full", "--strict", cwd=place)
        if status := shared.git("status", "--porcelain", cwd=place):
            raise Finding("git sees changes that the workload did not make", status)
        compare(place, shared.files)
    return {"ops": shared.commits, "files": len(shared.files)}


if __name__ == "__main__":
    main(iterate)
