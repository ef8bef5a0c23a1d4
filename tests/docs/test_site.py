"""The documentation agrees with the code, and its site builds without a warning and works without network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.case import CASES
from conformance.sut.registry import kinds

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Load docs/reference.py, which is a hook of mkdocs and belongs to no package."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(reference: ModuleType) -> dict[str, str]:
    pages = reference.pages()
    assert isinstance(pages, dict)
    return pages


def commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, click.Context(inner, parent=context))


def test_every_option_of_every_command_is_in_the_reference(generated: dict[str, str]) -> None:
    text = generated["reference/command-line.md"]
    options = {
        option
        for command in commands(cli, click.Context(cli))
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
    }
    assert "--fault-every" in options
    assert [option for option in sorted(options) if not re.search(rf"{option}\b", text)] == []


def test_every_kind_of_target_has_its_row_in_the_guide() -> None:
    assert "qemu" in kinds()
    assert [kind for kind in kinds() if f"`{kind}`" not in WRITTEN["adding-a-target.md"]] == []


def test_every_layer_is_in_the_glossary_and_has_a_page(generated: dict[str, str]) -> None:
    layers = {case.layer for case in CASES.values()}
    assert {"vfs", "ring"} <= layers
    row = next(line for line in WRITTEN["glossary.md"].splitlines() if line.startswith("| layer |"))
    assert [layer for layer in layers if layer not in row or f"reference/cases-{layer}.md" not in generated] == []


def test_every_package_is_in_the_map_or_the_reference(reference: ModuleType, generated: dict[str, str]) -> None:
    top = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert top == set(reference.PACKAGES)
    assert [name for name in top if f"`{name}/`" not in WRITTEN["map.md"]] == []
    packages = {path.parent.relative_to(ROOT).as_posix() for name in top for path in (ROOT / name).rglob("__init__.py")}
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", generated["reference/packages.md"], flags=re.M))
    assert packages - rows.keys() == set()


def test_every_case_is_in_the_reference(generated: dict[str, str]) -> None:
    text = "".join(page for name, page in generated.items() if name.startswith("reference/cases-"))
    assert [case for case in CASES if f"`{case}`" not in text] == []


def test_guides_hold_no_dated_measurements() -> None:
    # compatibility.md with its pages, and examples.md, quote recorded runs, each with its date
    guides = {name: text for name, text in WRITTEN.items() if not name.startswith(("compatibility", "examples"))}
    dated = {name: found for name, text in guides.items() if (found := re.findall(r"\b20\d\d-\d\d-\d\d\b", text))}
    assert dated == {}, "measurements belong to benchmarks/results/"


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(WRITTEN)
    fetched = re.compile(r'<(?:script|img|iframe)[^>]* src="?https?:|<link[^>]*rel="?stylesheet"?[^>]*href="?https?:')
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_help_of_the_command_itself_names_its_commands() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output
    assert [name for name in cli.list_commands(click.Context(cli)) if name not in said] == []
