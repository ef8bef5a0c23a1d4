"""The library of cases, checked from the registry of messages: every declaration is followed through."""

from __future__ import annotations

import ast
import fnmatch
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conformance
import conformance.cases
import reference_server.handlers
from conformance.case import CACHES, Case
from conformance.cases.wire import allowed
from conformance.catalogue.library import load_cases
from conformance.checks import CODES, fields
from conformance.features import FEATURES
from conformance.reports.message_matrix import CALL_LAYERS, NEVER_SENT, lines, matrix
from conformance.sut.load import load, names
from conformance.vfs.mount_options import DEFAULT, parse
from protocol.fields import Dialect
from protocol.messages import BY_NAME
from protocol.registry import Message
from tests.conformance.source_of_cases import reached, states_agreement

CASES_FOLDER = Path(conformance.cases.__file__).parent
HANDLERS_FOLDER = Path(reference_server.handlers.__file__).parent

REQUESTS = [m for name, m in BY_NAME.items() if name.startswith("T") and Dialect.L in m.dialects]

VFS_FAMILIES = {
    "session": {"session"},
    "walk": {"names", "paths", "session"},
    "open": {"open"},
    "io": {"io", "sync"},
    "directory": {"directory", "readdir"},
    "attributes": {"stat", "mode", "owner", "times", "truncate", "statfs"},
    "link": {"link", "symlink"},
    "node": {"node"},
    "rename": {"rename"},
    "unlink": {"unlink", "session"},
    "xattr": {"xattr"},
    "lock": {"lock"},
}
"""The vfs families of each message family: system calls are not grouped as messages are."""

NO_HANDLER = {"Tlerror": "is not a request"}
NO_WIRE_CASE = {"Tlerror": "is not a request; WIRE-FRAMING-010 sends it as an unknown type"}


@pytest.fixture(scope="module")
def library() -> list[Case]:
    return load_cases()


def of_family(library: list[Case], message: type[Message]) -> list[Case]:
    """The vfs cases that cover a message and are in a family of its own."""
    wanted = VFS_FAMILIES[message.family]
    return [c for c in library if c.layer == "vfs" and c.family in wanted and message.__name__ in c.covers]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: m.__name__)
def test_message_has_handler_module(message: type[Message]) -> None:
    if message.__name__ in NO_HANDLER:
        return
    text = (HANDLERS_FOLDER / f"{message.family}.py").read_text()
    assert re.search(rf"\b{message.__name__}\b", text), f"no handler of {message.__name__} in {message.family}.py"


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: m.__name__)
def test_message_has_wire_case(message: type[Message], library: list[Case]) -> None:
    of_layer = [c for c in library if c.layer == "wire" and message.__name__ in c.covers]
    covering = [c for c in of_layer if c.family.partition("_")[0] == message.family]
    assert covering or message.__name__ in NO_WIRE_CASE, f"no case in cases/wire/test_{message.family}.py"


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: m.__name__)
def test_message_has_vfs_case_of_its_family_or_a_reason(message: type[Message], library: list[Case]) -> None:
    covering = of_family(library, message)
    assert bool(covering) != (message.__name__ in NEVER_SENT), (
        f"{message.__name__}: {[c.id for c in covering]} cover it, reason {NEVER_SENT.get(message.__name__)!r}"
    )


def test_reasons_name_a_kernel_source() -> None:
    for name, reason in NEVER_SENT.items():
        assert name in BY_NAME
        assert re.search(r"\.c\b", reason), f"the reason for {name} names no source file"


def test_matrix_shows_every_message(library: list[Case]) -> None:
    shown = list(lines(library))
    names = {line.split()[0] for line in shown if not line.startswith(" ")}
    assert names == {m.__name__ for m in REQUESTS}
    assert not [line for line in shown if "NOT COVERED" in line]


def test_ids_are_unique_and_one_stem_is_one_family(library: list[Case]) -> None:
    assert len({c.id for c in library}) == len(library)
    families: dict[str, set[tuple[str, str]]] = {}
    for c in library:
        families.setdefault(c.id.rpartition("-")[0], set()).add((c.layer, c.family.partition("_")[0]))
    assert {stem: where for stem, where in families.items() if len(where) > 1} == {}


def test_every_test_function_is_a_declared_case(library: list[Case]) -> None:
    declared = {(c.function.__module__, c.function.__name__) for c in library}
    for path in CASES_FOLDER.glob("*/test_*.py"):
        module = f"conformance.cases.{path.parent.name}.{path.stem}"
        importlib.import_module(module)
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert (module, node.name) in declared, f"{path.name}: {node.name} is not a declared case"


def test_covers_names_requests(library: list[Case]) -> None:
    names = {m.__name__ for m in BY_NAME.values() if m.__name__.startswith("T")}
    wrong = {c.id: set(c.covers) - names for c in library if set(c.covers) - names}
    assert wrong == {}


SOURCE = re.compile(
    r"\w\(\d\w*\)|POSIX|9P2000|protocol\.md|virtio|VIRTIO|OASIS|Linux|QEMU|\.[ch]\b|\.rst\b|known defect"
    r"|\w#\d|CVE-\d|RFC|v9fs_|security_model|illumos issue \d"
)


@pytest.mark.parametrize("layer", [*CALL_LAYERS, "wire"])
def test_sources_name_something(layer: str, library: list[Case]) -> None:
    wrong = {c.id: c.source for c in library if c.layer == layer and not SOURCE.search(c.source)}
    assert wrong == {}


IMPLEMENTATION = re.compile(r"QEMU|diod|ganesha|crosvm|v86|p9ufs|hugelgupf|hw/9pfs/\S+ \w+|hw/9pfs", re.IGNORECASE)
RULE = re.compile(
    r"\w\(\d\w*\)|man page|manual|POSIX|9P2000|protocol\.md|intro\(5|virtio|OASIS|Linux|fs/|net/9p|include/"
    r"|Documentation/|RFC|LTP|fstests|CVE|CWE|known defect|illumos issue \d",
    re.IGNORECASE,
)


def test_a_must_rests_on_more_than_what_an_implementation_does(library: list[Case]) -> None:
    """Its documented options (QEMU's manual) and defects that users met count as more; its code alone does not.

    MODEL-009: only the code says how a security model keeps an attribute from guests."""
    alone = [c.id for c in library if c.severity == "must" and not RULE.search(IMPLEMENTATION.sub("", c.source))]
    assert alone == ["MODEL-009"]


def test_each_errno_that_a_refusal_may_carry_has_a_source() -> None:
    """The text below each set names its members; a joined set names its own members in its own text."""
    body = ast.parse(inspect.getsource(allowed)).body
    without: dict[str, set[str]] = {}
    for one, text in itertools.pairwise(body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.value is not None:
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), one.target.id
            members = {name.id for name in ast.walk(one.value) if isinstance(name, ast.Name) and name.id[0] == "E"}
            sources = str(text.value.value).split(":")
            named = {word for source in sources[:-1] for word in re.findall(r"\bE[A-Z0-9]+\b", source)}
            without |= {one.target.id: members - named} if members - named else {}
    assert without == {}


def test_no_two_cases_are_the_same(library: list[Case]) -> None:
    """Two cases once had one requirement, with two severities."""
    alike: dict[str, list[str]] = {}
    for c in library:
        function = ast.parse(textwrap.dedent(inspect.getsource(c.function))).body[0]
        assert isinstance(function, ast.FunctionDef)
        function.name, function.body = "", function.body[ast.get_docstring(function) is not None :]
        function.decorator_list = function.decorator_list[:-1]  # all but the case's id and severity
        alike.setdefault(f"{c.layer} {c.mount} {c.caches} {c.needs} {ast.dump(function)}", []).append(c.id)
    assert [ids for ids in alike.values() if len(ids) > 1] == []


@pytest.mark.parametrize("layer", [*CALL_LAYERS, "wire"])
def test_requirements_are_sentences_and_defects_go_by_their_own_names(layer: str, library: list[Case]) -> None:
    for c in library:
        if c.layer == layer:
            assert len(c.requirement.split()) >= 4, c.id
            assert "museum" not in c.requirement + c.source, f"{c.id}: name the defect's own id"


def test_needs_caches_and_mounts_are_known(library: list[Case]) -> None:
    for c in library:
        assert set(c.needs) <= set(FEATURES), c.id
        assert c.caches and set(c.caches) <= set(CACHES), c.id
        parse(c.mount, DEFAULT)


def test_cases_that_make_calls_take_the_share(library: list[Case]) -> None:
    for c in library:
        if c.layer in CALL_LAYERS:
            assert "share" in inspect.signature(c.function).parameters, c.id


@pytest.mark.parametrize("target", names())
def test_known_failures_name_cases(target: str, library: list[Case]) -> None:
    ids = {c.id for c in library}
    profile = load(target).profile
    named = {name.partition("[")[0] for k in profile.known for name in k.cases}
    assert {name for name in named if not fnmatch.filter(ids, name)} == set()
    assert {one.feature for one in profile.unsupported} <= set(FEATURES)


def test_matrix_counts_each_case_once(library: list[Case]) -> None:
    for name, ids in matrix(library).items():
        assert len(ids) == len(set(ids)), name


CHECKS = {"equal", "one_of", "between", "holds", "fields", "changes", "require", "require_equal", "has_pattern"}
"""Functions whose call judges a value: those of `conformance.checks`, and what cases build on them."""

MODULES = sorted(Path(conformance.__file__).parent.rglob("*.py"))


def judges(function: Any) -> bool:
    """Whether the function's own text has a check, an expected refusal, or a comparison of both sides."""
    calls = [
        n.func for n in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))) if isinstance(n, ast.Call)
    ]
    named = any(isinstance(f, ast.Name) and f.id in CHECKS for f in calls)
    methods = {f.attr for f in calls if isinstance(f, ast.Attribute)}
    return named or bool(methods & {"refuses", "gone", "same"})


@pytest.mark.parametrize("layer", CALL_LAYERS)
def test_every_case_compares_something(layer: str, library: list[Case]) -> None:
    without = [c.id for c in library if c.layer == layer and not any(map(judges, reached(c.function)))]
    assert without == []


def test_a_case_that_states_an_agreement_declares_so(library: list[Case]) -> None:
    """Without an outside vantage, an agreement holds whatever the target does."""
    stating = {c.id for c in library if any(map(states_agreement, reached(c.function)))}
    assert stating == {c.id for c in library if c.about == "agreement"}


def test_a_case_that_compares_nothing_is_seen() -> None:
    def judges_nothing(share: Any) -> None:
        share.inside.create("fred")

    def judges_a_field(share: Any) -> None:
        fields("'fred'", share.inside.stat("fred"), size=0)

    assert not judges(judges_nothing)
    assert judges(judges_a_field)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(Path(conformance.__file__).parent)))
def test_no_plain_assertion_and_no_finding_without_a_code(path: Path) -> None:
    assert list(unnamed(path.read_text(), of_a_case=CASES_FOLDER in path.parents)) == []


def test_plain_assertions_and_findings_without_a_code_are_seen() -> None:
    text = 'assert x == 1\nraise Finding("no")\nFinding("no", "colour")\nFinding("yes", "errno")\nTargetDied("yes")\n'
    assert list(unnamed(text, of_a_case=False)) == [
        "line 1: assert",
        "line 2: Finding without a code",
        "line 3: code 'colour'",
    ]
    narrows = "assert x is not None"
    assert list(unnamed(narrows, of_a_case=False)) == []
    assert list(unnamed(narrows, of_a_case=True)) == ["line 1: assert"]


def unnamed(text: str, *, of_a_case: bool) -> Iterator[str]:
    """The places of a module that judge without naming a finding code.

    Outside the cases, an assertion may say for the type checker that a value is not None: it judges no target.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert) and (of_a_case or not _narrows(node.test)):
            yield f"line {node.lineno}: assert"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        given = {k.arg: k.value for k in node.keywords}
        code = given.get("code")
        if node.func.id == "Finding":
            code = node.args[1] if len(node.args) > 1 else code
            if code is None:
                yield f"line {node.lineno}: Finding without a code"
        elif node.func.id not in CHECKS:
            continue
        if isinstance(code, ast.Constant) and str(code.value).partition(":")[0] not in CODES:
            yield f"line {node.lineno}: code {code.value!r}"


def _narrows(test: ast.expr) -> bool:
    """Whether the expression is `x is not None`."""
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.IsNot)
