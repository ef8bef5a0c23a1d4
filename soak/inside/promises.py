"""For the power cut: each step changes something, syncs it, and only then reports it; each report is a promise.

The steps depend only on the seed, so the host knows what each of them promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from soak.inside.common import configuration, fresh, generator, reporting


class Step(NamedTuple):
    """One change. `names` are the files that it touches, `data` goes to `at`."""

    verb: str
    names: tuple[str, ...]
    at: int
    data: bytes


def steps(seed: int, contents: dict[str, bytes]) -> Iterator[Step]:
    """Endless steps; `contents` is what every file must hold after the last yielded step."""
    rng, number = generator(seed), 0
    while True:
        number += 1
        verb = rng.choice(["create", "create", "overwrite", "rename", "unlink"]) if contents else "create"
        name = f"p{number:06}" if verb == "create" else rng.choice(sorted(contents))
        if verb == "create":
            data = bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 64))) * rng.randrange(1, 400)
            contents[name] = data
            yield Step(verb, (name,), 0, data)
        elif verb == "overwrite":
            at, data = rng.randrange(len(contents[name])), bytes([number & 255]) * rng.randrange(1, 5000)
            contents[name] = contents[name][:at] + data + contents[name][at + len(data) :]
            yield Step(verb, (name,), at, data)
        elif verb == "rename":
            to = f"r{number:06}"
            contents[to] = contents.pop(name)
            yield Step(verb, (name, to), 0, b"")
        else:
            del contents[name]
            yield Step(verb, (name,), 0, b"")


def perform(root: str, directory: int, step: Step) -> None:
    """Do it, and return only after fsync of the file and of the directory."""
    path = os.path.join(root, step.names[0])
    if step.verb in ("create", "overwrite"):
        fd = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if step.verb == "create" else 0), 0o644)
        try:
            os.pwrite(fd, step.data, step.at)
            os.fsync(fd)
        finally:
            os.close(fd)
    elif step.verb == "rename":
        os.rename(path, os.path.join(root, step.names[1]))
    else:
        os.unlink(path)
    os.fsync(directory)


def main() -> None:
    config = configuration()
    say, root = reporting(config), config["root"]
    fresh(root)
    directory = os.open(root, os.O_RDONLY)
    for number, step in enumerate(steps(config["seed"], {}), 1):
        perform(root, directory, step)
        say(e="durable", steps=number)


if __name__ == "__main__":
    main()
