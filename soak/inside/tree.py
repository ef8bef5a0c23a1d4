"""Workload `tree`: several processes create, rename, link and unlink in the same directories, each with a model.

Every process owns its names, so its model is exact whatever the others do; all share the directories, so the server
handles all of them at once. Names that several create (`race-N`) must have one winner. At the end inside and outside
must both show exactly what the models say: nothing lost, doubled or resurrected.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import random
from collections import Counter
from typing import Any

from soak.inside.common import Context, Finding, child, digest_of, generator, main, manifest

DIRECTORIES = 4


class Storm:
    """One process's names and what they should be."""

    def __init__(self, root: str, worker: int, rng: random.Random, repeat: int = 1) -> None:
        self.root, self.worker, self.rng, self.repeat = root, worker, rng, repeat
        self.files: dict[str, int] = {}
        """Path below the root -> number of the file that it names; several paths may name one."""
        self.gone: list[str] = []
        self.made = 0
        self.won: list[str] = []
        self.counts: dict[str, int] = {}

    def at(self, path: str) -> str:
        return os.path.join(self.root, path)

    def name(self) -> str:
        self.made += 1
        return f"d{self.rng.randrange(DIRECTORIES)}/w{self.worker}-{self.made:06}"

    def content(self, number: int) -> bytes:
        return (b"worker %d file %d " % (self.worker, number)) * (1 + number % 40) * self.repeat

    def step(self) -> None:
        verbs = ["create", "create", "rename", "replace", "link", "unlink", "read", "list", "race", "directory"]
        verb = self.rng.choice(verbs)
        if verb in ("rename", "replace", "link", "unlink", "read") and not self.files:
            verb = "create"
        self.counts[verb] = self.counts.get(verb, 0) + 1
        getattr(self, verb)()

    def any_file(self) -> str:
        return self.rng.choice(sorted(self.files))

    def create(self) -> None:
        path = self.name()
        with open(self.at(path), "xb") as f:
            f.write(self.content(self.made))
        self.files[path] = self.made

    def rename(self) -> None:
        old, new = self.any_file(), self.name()
        os.rename(self.at(old), self.at(new))
        self.files[new] = self.files.pop(old)
        self.gone.append(old)

    def replace(self) -> None:
        """Rename onto an existing name. With two names of one file rename does nothing, as in POSIX."""
        old, new = self.any_file(), self.any_file()
        os.rename(self.at(old), self.at(new))
        if self.files[old] != self.files[new]:
            self.files[new] = self.files.pop(old)
            self.gone.append(old)

    def link(self) -> None:
        old, new = self.any_file(), self.name()
        os.link(self.at(old), self.at(new))
        self.files[new] = self.files[old]

    def unlink(self) -> None:
        path = self.any_file()
        os.unlink(self.at(path))
        del self.files[path]
        self.gone.append(path)

    def read(self) -> None:
        path = self.any_file()
        number = self.files[path]
        fd = os.open(self.at(path), os.O_RDONLY)
        try:
            found, links = read_all(fd), os.fstat(fd).st_nlink
        finally:
            os.close(fd)
        if found != self.content(number):
            raise Finding(f"wrong content of {path}", f"found {found[:200]!r}, wrote {self.content(number)[:200]!r}")
        should = sum(1 for n in self.files.values() if n == number)
        if links != should:
            raise Finding(f"{path} has {links} links, should have {should}")

    def list(self) -> None:
        """Our own names do not change while we list: each must come once, and no removed one."""
        directory = f"d{self.rng.randrange(DIRECTORIES)}"
        mine = f"w{self.worker}-"
        seen = sorted(n for n in os.listdir(self.at(directory)) if n.startswith(mine))
        should = sorted(os.path.basename(p) for p in self.files if p.startswith(directory + "/"))
        if seen != should:
            raise Finding(f"the listing of {directory} is wrong", difference(should, seen))
        for path in self.gone[-3:]:
            if path not in self.files and os.path.lexists(self.at(path)):
                raise Finding(f"{path} is there again after it was removed")

    def race(self) -> None:
        """All processes try to create these names; the models of who has them are merged at the end."""
        name = f"race/{self.rng.randrange(400)}"
        try:
            os.close(os.open(self.at(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return
        self.won.append(name)

    def directory(self) -> None:
        path = self.at(self.name() + ".d")
        os.mkdir(path)
        with open(os.path.join(path, "child"), "wb"):
            pass
        try:
            os.rmdir(path)
        except OSError as e:
            if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            raise Finding("rmdir removed a directory that was not empty", path)
        os.unlink(os.path.join(path, "child"))
        os.rmdir(path)
        if os.path.lexists(path):
            raise Finding(f"{path} is there after rmdir")


def read_all(fd: int) -> bytes:
    parts = iter(lambda: os.read(fd, 1 << 20), b"")
    return b"".join(parts)


def difference(should: list[str], seen: list[str]) -> str:
    """Describe the difference of two lists."""
    doubled = sorted({n for n in seen if seen.count(n) > 1})
    lost, extra = sorted(set(should) - set(seen)), sorted(set(seen) - set(should))
    return f"lost: {lost[:20]}; not ours or resurrected: {extra[:20]}; doubled: {doubled[:20]}"


def work(context: Context, worker: int, seed: int, steps: int, result: int) -> None:
    """One process: its storm, then its model (or what went wrong) as JSON into a pipe."""
    storm = Storm(context.root, worker, generator(seed, worker), context.config.get("repeat", 1))
    said: dict[str, Any] = {}
    step = 0
    try:
        for step in range(steps):
            storm.step()
            if worker == 0:
                context.alive(step)
        said = {"files": storm.files, "won": storm.won, "counts": storm.counts}
    except Finding as f:
        said = {"what": f.what, "detail": f.detail, "step": step}
    except OSError as e:
        said = {"what": f"a call failed in process {worker} at step {step}: {e}", "detail": "", "step": step}
    with os.fdopen(result, "w") as pipe:
        json.dump(said, pipe)


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """One storm and its judgement."""
    workers, steps = context.config.get("workers", 3), context.config.get("steps", 300)
    seed = rng.getrandbits(48)
    for d in [*[f"d{i}" for i in range(DIRECTORIES)], "race"]:
        os.mkdir(os.path.join(context.root, d))
    pipes = []
    for worker in range(workers):
        r, w = os.pipe()
        pipes.append((child(functools.partial(work, context, worker, seed, steps, w)), r))
        os.close(w)
    said = []
    for pid, r in pipes:
        with os.fdopen(r) as pipe:
            text = pipe.read()
        status = os.waitpid(pid, 0)[1]
        if status or not text:
            raise RuntimeError(f"a process of the storm ended with wait status {status}")
        said.append(json.loads(text))
    for worker, one in enumerate(said):
        if "what" in one:
            raise Finding(one["what"], "process {}, step {}\n{}".format(worker, one["step"], one["detail"]))
    lines = judge(context.root, said, context.config.get("repeat", 1))
    if context.config.get("judged", 1):  # 0: there is no vantage outside
        context.look_outside("", digest_of(lines))
    counts = sum((Counter(one["counts"]) for one in said), Counter[str]())
    return {"ops": workers * steps, "entries": len(lines), "verbs": dict(counts)}


def judge(root: str, said: list[dict[str, Any]], repeat: int) -> list[str]:
    """Check the manifest against the models; returns it."""
    lines = manifest(root)
    seen = sorted(line.split(" ")[0] for line in lines)
    won = [name for one in said for name in one["won"]]
    if len(won) != len(set(won)):
        twice = sorted({n for n in won if won.count(n) > 1})
        raise Finding("O_CREAT|O_EXCL made the same name twice", ", ".join(twice[:20]))
    should = sorted([*[f"d{i}" for i in range(DIRECTORIES)], "race", *won, *[p for one in said for p in one["files"]]])
    if seen != should:
        raise Finding("the tree is not what the models say", difference(should, seen))
    for worker, one in enumerate(said):
        storm = Storm(root, worker, random.Random(0), repeat)
        storm.files = one["files"]
        identities: dict[int, int] = {}
        for path, number in sorted(storm.files.items()):
            inode = os.lstat(storm.at(path)).st_ino
            if identities.setdefault(number, inode) != inode:
                raise Finding(f"{path} is not the file that its other names name")
            with open(storm.at(path), "rb") as f:
                if f.read() != storm.content(number):
                    raise Finding(f"wrong content of {path} at the end")
        if len(set(identities.values())) != len(identities):
            raise Finding("two files have one inode number", str(sorted(identities.items())[:20]))
    return lines


if __name__ == "__main__":
    main(iterate)
