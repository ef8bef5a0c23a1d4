"""Every value of every target and component of the suite is replaced by wrong ones: one line, or the run starts."""

from __future__ import annotations

import datetime
import json
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.profiles import model as profiles
from conformance.sut import load
from tests.cli.conftest import STARTED, Command

FILES = sorted([*Path(load.__file__).parents[1].glob("targets/*.toml"), *Path(profiles.__file__).parent.glob("*.toml")])
WRONG: list[Any] = [
    5,
    -1,
    0,
    1.5,
    float("inf"),
    float("nan"),
    True,
    1 << 62,
    "",
    " ",
    "x",
    "{",
    "{}",
    "{0}",
    "{x.y}",
    "{path!r:>{x}}",
    "a\nb",
    "\0",
    "\N{SNOWMAN}" * 300,
    "/proc/nonexistent",
    "(",
    ">>7",
    "..",
    [],
    [[]],
    [5],
    [""],
    ["\0"],
    [{}],
    {},
    {"x": 5},
    {"": ""},
    {"x": {"x": []}},
    datetime.date(1979, 5, 27),
    datetime.time(7, 32),
]


def toml(value: Any) -> str:
    """A value in TOML, with inline tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float):
        return str(value)
    return json.dumps(value)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a table; where a list has similar entries, only the first few."""
    if at:
        yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value[:3]):
            yield from places(each, (*at, number))


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """The table with another value at that place."""
    if not at:
        return new
    if isinstance(value, dict):
        return {key: changed(each, at[1:], new) if key == at[0] else each for key, each in value.items()}
    return [changed(each, at[1:], new) if number == at[0] else each for number, each in enumerate(value)]


@pytest.mark.parametrize("values", [0, pytest.param(2, marks=pytest.mark.long)], ids=["few places", "all places"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_any_value_is_taken_or_refused_in_one_line(assay9: Command, tmp_path: Path, file: Path, values: int) -> None:
    """``values`` wrong values at each place; 0: one value at each of a few places."""
    table, rng = tomllib.loads(file.read_text()), random.Random(file.stem)
    where = list(places(table))
    run = "./mine.toml"
    if file.parent.name == "profiles":
        run = "./whole.toml"
        (tmp_path / run).write_text('kind = "local"\ntitle = "x"\ncomponents = ["mine.toml"]\n')
    for at in where if values else rng.sample(where, min(4, len(where))):
        for wrong in rng.sample(WRONG, values or 1):
            text = "".join(f"{json.dumps(key)} = {toml(each)}\n" for key, each in changed(table, at, wrong).items())
            (tmp_path / "mine.toml").write_text(text)
            seen = assay9("run", run)
            said = f"{at} = {wrong!r}: {seen}"
            assert seen.status in (2, 3, STARTED), said
            assert seen.status == STARTED or (len(seen.err.splitlines()) == 1 and seen.err.startswith("assay9: ")), said
            assert "internal error" not in seen.err and "Traceback" not in seen.err, said
