"""Workload `integrity`: random operations on two files against a model of their bytes; a failure is shrunk.

A sequence depends on seed and iteration alone. When one fails, parts are left out as long as it still fails in the same
way, and the shortest one is kept as JSON, to run again by hand in any directory:

    python3 -m soak.inside.integrity --replay minimal.json DIRECTORY
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from soak.inside.common import Context, Finding, digest_of, main, manifest
from soak.inside.fileops import Calls, Exerciser, Operation, generate

FILES = 2
SHRINK_SECONDS = 120.0


def attempt(
    directory: str,
    ops: list[Operation],
    size: int,
    calls: Calls | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> tuple[Finding | None, Exerciser]:
    """Run a sequence on new files. Returns its finding, if any, and the exerciser.

    A failing call is a finding, too, unless the disk is full: that is raised, because it says nothing about the share.
    """
    exerciser = Exerciser(directory, FILES, size, calls)
    op: Operation = {"verb": "open"}
    try:
        for number, op in enumerate(ops):
            exerciser.run(op)
            tick(number)
        op = {"verb": "finish"}
        exerciser.finish()
    except Finding as f:
        return f, exerciser
    except OSError as e:
        return Finding("{}: {}".format(op["verb"], os.strerror(e.errno or 0)), f"{op}: {e}"), exerciser
    finally:
        exerciser.close()
    return None, exerciser


def shrink(ops: list[Operation], fails: Callable[[list[Operation]], bool], until: float) -> list[Operation]:
    """The shortest sequence found that still fails: ever smaller pieces are left out until none can be removed.

    `fails` runs a sequence; `until` is the time (time.monotonic) after which the best so far is taken.
    """
    size = len(ops) // 2
    while size >= 1:
        start, before = 0, len(ops)
        while start < len(ops):
            if time.monotonic() > until:
                return ops
            less = ops[:start] + ops[start + size :]
            if fails(less):
                ops = less
            else:
                start += size
        if size > 1 or len(ops) == before:
            size //= 2  # single operations are tried again until a whole round removes none
    return ops


def simpler(ops: list[Operation], fails: Callable[[list[Operation]], bool], until: float) -> list[Operation]:
    """The same sequence with shorter lengths and lower offsets, if it still fails with them."""
    for place in range(len(ops)):
        for key in ("length", "at"):
            while time.monotonic() < until and ops[place].get(key, 0) > 1:
                value = ops[place][key] // 2
                if ops[place]["verb"].endswith("_direct"):
                    value = value // 4096 * 4096
                    if value == 0 and key == "length":
                        break
                tried = [*ops[:place], {**ops[place], key: value}, *ops[place + 1 :]]
                if not fails(tried):
                    break
                ops = tried
    return ops


def explain(context: Context, ops: list[Operation], found: Finding, size: int, calls: Calls | None) -> Finding:
    """The finding with its sequence shrunk and kept."""
    ran = 0

    def fails(some: list[Operation]) -> bool:
        nonlocal ran
        ran += 1
        context.alive(-1)
        again, _ = attempt(context.root, some, size, calls)
        return again is not None and again.what == found.what

    whole = os.path.join(context.keep, f"sequence-{context.number}.json")
    save(whole, ops, size)
    if not fails(ops):
        return Finding(
            found.what, f"{found.detail}\nnot seen again when the same {len(ops)} operations were repeated", (whole,)
        )
    until = time.monotonic() + context.config.get("shrink_seconds", SHRINK_SECONDS)
    small = simpler(shrink(ops, fails, until), fails, until)
    minimal = os.path.join(context.keep, f"minimal-{context.number}.json")
    save(minimal, small, size)
    last, _ = attempt(context.root, small, size, calls)
    lines = [json.dumps(op) for op in small]
    detail = last.detail if last is not None else found.detail
    return Finding(
        found.what,
        "\n".join([detail, f"{len(ops)} operations made {len(small)} in {ran} runs:", *lines]),
        (whole, minimal),
    )


def save(path: str, ops: list[Operation], size: int) -> None:
    """Save a sequence for `--replay`."""
    with open(path, "w") as f:
        json.dump({"size": size, "ops": ops}, f)


def iterate(context: Context, rng: random.Random, calls: Calls | None = None) -> dict[str, Any]:
    """Several sequences, judged inside and at the end outside."""
    config = context.config
    size, count, sequences = config.get("size", 1 << 18), config.get("ops", 400), config.get("sequences", 10)
    not_offered: dict[str, int] = {}
    for sequence in range(sequences):
        ops = generate(rng, count, size, FILES)
        found, exerciser = attempt(context.root, ops, size, calls, ticking(context, sequence * count))
        if found is not None:
            if "No space left" in found.what:
                raise found
            raise explain(context, ops[: exerciser.done + 1], found, size, calls)
        for verb, times in exerciser.not_offered.items():
            not_offered[verb] = not_offered.get(verb, 0) + times
        context.look_outside("", digest_of(manifest(context.root)))
    if not_offered and not context.config.get("kept", {}).get("not offered"):
        context.note("this mount does not offer: " + ", ".join(sorted(not_offered)))
        context.keep_value("not offered", sorted(not_offered))
    return {"ops": sequences * count, "not_offered": not_offered}


def ticking(context: Context, done: int) -> Callable[[int], None]:
    """Progress reports for a sequence that begins after so many operations of others."""
    return lambda number: context.alive(done + number)


def replay(path: str, directory: str) -> int:
    """Run a kept sequence; returns 1 if it still fails."""
    with open(path) as f:
        kept = json.load(f)
    found, exerciser = attempt(directory, kept["ops"], kept["size"])
    if found is None:
        print("{} operations, nothing wrong; not offered: {}".format(len(kept["ops"]), exerciser.not_offered or "-"))
        return 0
    print(f"operation {exerciser.done}: {found.what}\n{found.detail}")
    return 1


if __name__ == "__main__":
    if sys.argv[1] == "--replay":
        sys.exit(replay(sys.argv[2], sys.argv[3]))
    main(iterate)
