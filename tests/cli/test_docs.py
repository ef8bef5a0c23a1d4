"""docs/command-line.md names what the code has, and each target names what its default run leaves out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from assay9.run import run
from conformance.case import BY_NAME
from conformance.sut.asked import asked_of
from conformance.sut.attach.tables import AttachTarget, attached
from conformance.sut.hypervisor.kind import values_of
from conformance.sut.hypervisor.tables import HypervisorTarget
from conformance.sut.layers import default_layers, drivable, said_of_left_out
from conformance.sut.load import load, names
from conformance.sut.options import GUEST, RUNNING, SERVER
from conformance.sut.registry import flags
from guests.machines.qemu import check as qemu_check

TESTS = Path(__file__).parents[1]
CHECKOUT = TESTS.parent
TEXT = (CHECKOUT / "docs" / "command-line.md").read_text(encoding="utf-8")


def test_every_option_of_a_run_is_in_the_table() -> None:
    names = {max(p.opts, key=len) for p in run.params if isinstance(p, click.Option)}
    assert [name for name in sorted(names) if f"`{name}`" not in TEXT] == []


def test_help_shows_every_option_of_a_run_under_its_heading() -> None:
    said = CliRunner().invoke(run, ["--help"]).output
    headings = ["Which cases:", "The share:", "A target with a guest:", "A server or device of yours:", "The run:"]
    assert [line for line in said.splitlines() if line in headings] == headings
    for name in ("--security-model", "--link", "--export", "--address", "--aname", "--image", "--jobs", "--control"):
        assert f"  {name} " in said


def test_every_need_of_a_qemu_is_in_the_table() -> None:
    needs = {*qemu_check.MACHINE, *qemu_check.SHARES, *qemu_check.BACK_ENDS, *qemu_check.QTEST}
    rows = [line for line in TEXT.splitlines() if line.startswith("| `-")]
    listed = {(row.split("`")[1], name) for row in rows for name in row.split("|")[2].split("`")}
    assert {(need.asked, need.name) for need in needs} <= listed


def test_every_variable_of_the_environment_is_in_the_table() -> None:
    packages = ("assay9", "conformance", "guests", "protocol", "reference_server", "soak")
    code = "".join(path.read_text() for one in packages for path in (CHECKOUT / one).rglob("*.py"))
    read = set(re.findall(r"""["'](ASSAY9_[A-Z_]+)["']""", code))
    assert read and {name for name in read if f"| `{name}` |" not in TEXT} == set()


SHOWN = sorted(
    {
        (page.relative_to(CHECKOUT).as_posix(), command)
        for page in (CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md"))
        for command in re.findall(
            r"^ *(?:\.venv/bin/)?assay9 run ((?:[^#\n`\\]|\\\n)+)", page.read_text(), re.MULTILINE
        )
        if command.split()[0] in names()
    }
)


@pytest.mark.parametrize(("page", "command"), SHOWN, ids=lambda text: text.split()[0])
def test_a_command_that_a_page_shows_is_one_that_a_run_accepts(page: str, command: str) -> None:
    words = shlex.split(command)
    given = run.make_context("run", list(words)).params
    assert not [word for word in given["pytest_args"] if word.startswith("--") and word not in ("--lf", "--co")], page
    options = {name: given[one.key] for name, one in flags().items()}
    layers = given["layers"] or default_layers(load(words[0]))
    made = asked_of(load(words[0]), options, layers)
    if isinstance(made.target, HypervisorTarget):
        values_of(made)
    elif isinstance(made.target, AttachTarget):
        attached(made.target, made.options)


def functions(*modules: Path) -> set[str]:
    """The tests in these modules."""
    return {name for one in modules for name in re.findall(r"^ *def (test_\w+)", one.read_text(), re.MULTILINE)}


def test_every_way_of_going_wrong_has_its_exit_status_and_its_test() -> None:
    text = (CHECKOUT / "docs" / "when-a-run-goes-wrong.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    there, listed = functions(*TESTS.rglob("test_*.py")), set[str]()
    for way, _said, status, test in rows:
        if way.strip() == "way of going wrong":
            continue
        assert re.search(r"\d|as usual", status) or "takes minutes" in way, way
        named = set(re.findall(r"`(test_\w+)`", test))
        files = re.findall(r"`(tests/[\w/]+\.py)`", test)
        assert named or files or test.strip() == "the same", way
        assert named <= there and all((CHECKOUT / one).is_file() for one in files), test
        listed |= named
    broken = functions(TESTS / "end_to_end" / "test_broken_runs.py")
    assert broken - listed == set(), "ways of going wrong that the table does not have"


@pytest.mark.parametrize("name", names())
def test_a_default_run_has_all_layers_or_says_why_not(name: str) -> None:
    target = load(name)
    can, default = drivable(target), default_layers(target)
    assert set(default) <= set(can)
    left_out = set(can) - set(default) - set(BY_NAME)
    assert set(target.left_out) == left_out, "each layer left out has a reason, and no other has"
    assert all(reason for reason in target.left_out.values())


@pytest.mark.parametrize("model", ["mapped-xattr", "mapped-file"])
def test_a_mapped_security_model_leaves_the_layers_below_a_mount_out(model: str) -> None:
    target, options = load("qemu"), {"security_model": model}
    assert set(default_layers(target)) - set(default_layers(target, options)) == {"wire", "ring"}
    assert [line for line in said_of_left_out(target, options) if model in line and "--layer wire" in line]
    assert default_layers(target, {"security_model": "none"}) == default_layers(target, {"security_model": None})


def test_help_lists_the_options_of_kinds_as_they_are_declared() -> None:
    """Options that refer to those above them would otherwise refer to nothing."""
    text = run.get_help(run.make_context("run", [], resilient_parsing=True))
    names = [one.flag.name for one in flags().values()]
    assert [name for _, name in sorted((text.index(f"\n  {name} "), name) for name in names)] == [
        one.flag.name
        for one in sorted(flags().values(), key=lambda one: (GUEST, SERVER, RUNNING).index(one.flag.group))
    ]
