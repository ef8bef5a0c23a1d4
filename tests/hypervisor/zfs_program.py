"""A simulated zfs(8) for tests: data sets, their properties and their mount points are a JSON file beside the program.

As on illumos: `create -p` of a data set that is there succeeds and ignores each -o; `set` takes one property; `get`
prints the value of one, nothing where it is not set; `destroy` requires -r if there are children. $NO_PROPERTY names a
property that this system does not have.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

STATE = Path(os.environ["ZFS_STATE"])


def refuse(why: str) -> None:
    raise SystemExit(f"zfs: {why}")


def apply(found: dict[str, str], text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals or name == os.environ.get("NO_PROPERTY"):
        refuse(f"bad property '{text}'")
    found[name] = value
    if name == "mountpoint":
        Path(value).mkdir(parents=True, exist_ok=True)


def main(command: str, *words: str) -> None:
    sets: dict[str, dict[str, str]] = json.loads(STATE.read_text())
    *options, name = words
    if command == "create":
        given = [options[n + 1] for n, word in enumerate(options) if word == "-o"]
        if name in sets:
            if "-p" not in options:
                refuse(f"cannot create '{name}': dataset already exists")
            return
        parents = [name.rsplit("/", n)[0] for n in range(1, name.count("/") + 1)]
        for parent in reversed(parents):
            if parent not in sets:
                if "-p" not in options:
                    refuse(f"cannot create '{name}': parent does not exist")
                sets[parent] = {}
        made: dict[str, str] = {}
        for text in given:
            apply(made, text)
        sets[name] = made
    elif name not in sets:
        refuse(f"cannot open '{name}': dataset does not exist")
    elif command == "list" and not options:
        print(name)
    elif command == "get" and options[:-1] == ["-H", "-o", "value", "-s", "local"]:
        print(*(value for key, value in sets[name].items() if key == options[-1]))
    elif command == "set" and len(options) == 1:
        apply(sets[name], options[0])
    elif command == "destroy":
        below = [one for one in sets if one.startswith(name + "/")]
        if below and "-r" not in options:
            refuse(f"cannot destroy '{name}': filesystem has children")
        for one in (name, *below):
            del sets[one]
    else:
        refuse(f"unrecognized command {command} {words}")
    STATE.write_text(json.dumps(sets))


main(*sys.argv[1:])
