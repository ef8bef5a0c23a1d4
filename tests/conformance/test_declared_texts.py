"""A known failure that matches a finding by its text (`what = ...`) names a text that a case still has.

The test reads the sources and runs nothing. A check's text is a string of the case's module or of a module that it
imports, with holes for values. A pattern is possible if it fits such a string and each of its words occurs in a string
or name of these modules. After a text is reworded, its entry covers nothing: a run reports the known failure as a new
one, but only a run on exactly that target, kernel and version.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.catalogue.library import load_cases
from conformance.checks import CODES
from conformance.profiles import load as profiles
from conformance.profiles.model import Known

READ = ("conformance.cases", "conformance.raw", "conformance.vfs", "conformance.transports", "conformance.virtio")
"""Packages with the modules that contain the texts of findings."""
SHARED = ("conformance.checks", "conformance.comparison", "protocol.messages", "protocol.constants")
"""Modules whose names and strings occur in the texts of every case: spellings, fields of messages, constants."""
WORD = re.compile(r"[A-Za-z][A-Za-z]+")
HOLE = "*"


@functools.cache
def tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return ast.parse(Path(spec.origin).read_text())


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith(READ):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names if is_module(f"{node.module}.{name.name}"))


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def reached(module: str) -> frozenset[str]:
    """The module and every module that it imports, directly or through others."""
    found = [module]
    for one in found:
        found += [other for other in imported(one) if other not in found]
    return frozenset(found)


def template(node: ast.expr) -> str | None:
    """The text of a string with a hole for each value that is put into it; None if the expression is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or HOLE for part in node.values)
    return None


@functools.cache
def texts(module: str) -> frozenset[str]:
    found = {template(node) for node in ast.walk(tree(module)) if isinstance(node, ast.expr)}
    return frozenset(text for text in found if text is not None)


@functools.cache
def words(module: str) -> frozenset[str]:
    """Every word in the module's strings and names; `qid.type` is an attribute."""
    source = ast.unparse(tree(module))
    return frozenset(word for name in WORD.findall(source) for word in (name, *name.split("_")))


def meet(one: str, other: str) -> bool:
    """Whether some text fits both patterns."""
    places, seen = [(0, 0)], {(0, 0)}
    for i, j in places:
        if (i, j) == (len(one), len(other)):
            return True
        holes = [text[at : at + 1] == HOLE for text, at in ((one, i), (other, j))]
        further = [(i + 1, j)] if holes[0] else []
        further += [(i, j + 1)] if holes[1] else []
        if i < len(one) and j < len(other):
            further += [(i, j + 1)] if holes[0] else []
            further += [(i + 1, j)] if holes[1] else []
            further += [(i + 1, j + 1)] if one[i] == other[j] else []
        places += [place for place in dict.fromkeys(further) if place not in seen]
        seen.update(further)
    return False


def can_be_produced(pattern: str, module: str) -> bool:
    """Whether a case of that module can make a finding whose text fits the pattern."""
    modules = reached(module)
    known = frozenset().union(*(words(one) for one in (*modules, *SHARED)))
    named = set(WORD.findall(pattern))
    if not named <= known:
        return False
    return any(
        meet(pattern, text)
        for one in (*modules, *SHARED)
        for text in texts(one)
        if not named or named & set(WORD.findall(text))
    )


@functools.cache
def modules() -> dict[str, str]:
    """The module of each case."""
    return {one.id: one.function.__module__ for one in load_cases()}


def entries() -> Iterator[tuple[str, Known]]:
    for name in profiles.names():
        for entry in profiles.component(name, Path("targets/x.toml")).profile.known:
            yield name, entry


def unproducible(entry: Known) -> list[str]:
    wanted = entry.values.get("what", [])
    about = {module for id, module in modules().items() if any(entry.names(id, p) for p in ("", *_inner(entry)))}
    return [
        pattern
        for pattern in ([wanted] if isinstance(wanted, str) else wanted)
        if not any(can_be_produced(pattern, module) for module in about)
    ]


def _inner(entry: Known) -> Iterator[str]:
    """The parameters that the entry names."""
    for case in entry.cases:
        _id, _, inner = case.partition("[")
        yield inner.removesuffix("]")


def test_each_text_that_a_profile_names_can_still_be_produced() -> None:
    found = [(name, entry.case, bad) for name, entry in entries() if (bad := unproducible(entry))]
    assert found == []


def test_each_code_that_a_profile_names_is_one_of_the_suite() -> None:
    assert {code.partition(":")[0] for _name, entry in entries() for code in entry.codes} <= set(CODES)


@pytest.mark.parametrize(
    ("what", "produced"),
    [
        ("a reply longer than msize", True),
        ("a reply that is longer than msize", False),
        ("content of * on the host", True),
        ("content of * on the hoster", False),
    ],
)
def test_a_text_that_was_reworded_is_found(what: str, produced: bool) -> None:
    entry = Known(case="WIRE-*", finding="value", values={"what": what}, reason="r", link="https://example.org")
    assert (unproducible(entry) == []) is produced
