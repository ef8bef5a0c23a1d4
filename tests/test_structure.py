"""The structure of the tree, as far as the linters cannot check it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
SUITE = CHECKOUT / "conformance"
SOURCES = ("protocol", "reference_server", "guests", "conformance", "soak", "assay9", "tests", "benchmarks")
MODULES = sorted(path for name in SOURCES for path in (CHECKOUT / name).rglob("*.py"))
MOST_LINES = 600
MOST_MODULES = 13
"""The limit for a room of the suite, so that a reader can survey it: about ten."""

FEWEST_WORDS = 3
"""The number of words from which a literal type must have a name."""

REASON = re.compile(
    r"# noqa: (?:\w+, )?PLC0415 - (?:\d+ ms|not installed everywhere|as above|see (?:conformance\.)?sut\.kind)"
)
"""Why an import may be inside a function: it costs a measured time, or its package may be missing."""


def test_an_import_in_a_function_names_what_it_saves() -> None:
    """Such an import must not hide a circle, which import-linter forbids."""
    assert [
        f"{path.relative_to(CHECKOUT)}: {line.strip()}"
        for path in MODULES
        if path != Path(__file__)
        for line in path.read_text().splitlines()
        if "PLC0415" in line and not REASON.search(line)
    ] == []


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    sizes = {str(path.relative_to(CHECKOUT)): path.read_text().count("\n") for path in MODULES}
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES} == {}


def test_no_line_is_laid_out_by_hand() -> None:
    """`ruff format` decides, everywhere."""
    by_hand = re.compile(r"# fmt: *(skip|off)")
    assert [path.relative_to(CHECKOUT) for path in MODULES if by_hand.search(path.read_text())] == []


def test_every_room_of_the_suite_can_be_taken_in_at_a_glance() -> None:
    """A room is a package; the cases are a library, with a module for each family."""
    found = [path for path in MODULES if path.is_relative_to(SUITE) and not path.is_relative_to(SUITE / "cases")]
    rooms = Counter(str(path.parent.relative_to(CHECKOUT)) for path in found if path.name != "__init__.py")
    assert {room: count for room, count in rooms.items() if count > MOST_MODULES} == {}


def test_every_set_of_words_is_named_once() -> None:
    """Verdicts, severities, layers, rules: `conformance.vocabulary`; the options of QEMU: `guests.machines.spec`."""
    found: dict[frozenset[str], list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
                words = [inner.value for inner in ast.walk(node.slice) if isinstance(inner, ast.Constant)]
                if len(words) >= FEWEST_WORDS:
                    found[frozenset(map(str, words))].append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert [places for places in found.values() if len(places) > 1] == []


def test_every_option_of_the_command_line_is_declared_once() -> None:
    """Commands with the same option share its declaration (`conformance.options`), so that they explain it alike."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in MODULES:
        if path.is_relative_to(CHECKOUT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and not ast.unparse(node.func).endswith("addoption"):
                words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                text = [
                    str(k.value.value) for k in node.keywords if k.arg == "help" and isinstance(k.value, ast.Constant)
                ]
                explained = any(k.arg == "help" for k in node.keywords)
                if words and words[0].startswith("-") and explained and (text or "--results" in words):
                    option = words if "--results" in words else [*words, *text]
                    found[tuple(option)].append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert [places for places in found.values() if len(places) > 1] == []


def test_the_fragments_of_the_changelog_can_be_gathered() -> None:
    """towncrier refuses a fragment whose name has no known type."""
    argv = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0"]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    empty = [path.name for path in (CHECKOUT / "changes").glob("*.md") if not path.read_text().strip()]
    assert empty == []


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("guests: restore from snapshot\n\nA boot takes ten seconds.\n", ""),
        ("guests: restore from snapshot\n", "the body is missing"),
        ("guests: restore from snapshot\nA boot takes ten seconds.\n", "the second line is not empty"),
        ("restore from snapshot\n\nA boot takes ten seconds.\n", "does not begin with the part"),
        (f"guests: {'x' * 65}\n\nA boot takes ten seconds.\n", "73 characters"),
    ],
)
def test_the_rule_for_commit_messages(tmp_path: Path, message: str, refused: str) -> None:
    file = tmp_path / "message"
    file.write_text(message)
    argv = [str(CHECKOUT / "tests" / "commit_message.sh"), str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == bool(refused) and refused in done.stderr
