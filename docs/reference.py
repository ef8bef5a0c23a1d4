"""The reference pages of the site, generated from the code: nothing in them is written twice.

mkdocs loads this file as a hook (`hooks` in mkdocs.yml) and adds the pages to those of the folder; none is committed.
Rule of this module: a page is a pure function of what the packages declare.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, get_args, get_type_hints

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from assay9.cli import cli
from conformance.case import CASES, LAYERS, Case
from conformance.catalogue import decided
from conformance.catalogue.library import load_cases
from conformance.checks import CODES
from conformance.evidence import models
from conformance.profiles import model as profiles
from conformance.sut.kind import CAPABILITIES
from conformance.sut.layers import default_layers
from conformance.sut.load import load, names
from conformance.sut.registry import kinds
from protocol import messages
from protocol.registry import Message
from soak import faults
from soak import workloads as soak_workloads

PACKAGES = ("assay9", "soak", "conformance", "guests", "reference_server", "protocol")
_REMOTE = re.compile(r'<script src="?https?://[^>]*></script>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site's. Called by mkdocs."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_post_page(output: str, **_: object) -> str:
    """Take out the one script that Material fetches from another site: ours works without network."""
    return _REMOTE.sub("", output)


def on_post_template(output_content: str, **_: object) -> str:
    """The same for pages that have no source, such as 404.html."""
    return _REMOTE.sub("", output_content)


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    load_cases()
    made = {
        "reference/command-line.md": commands(),
        "reference/targets.md": targets(),
        "reference/target-toml.md": target_toml(),
        "reference/record.md": record(),
        "reference/messages.md": nine_p(),
        "reference/findings.md": findings(),
        "reference/soak.md": soak(),
        "reference/packages.md": packages(),
        "reference/cases.md": overview(),
    }
    for layer in LAYERS:
        if any(c.layer == layer for c in CASES.values()):
            made[f"reference/cases-{layer}.md"] = cases(layer)
    return made


# ---------------------------------------------------------------- Markdown


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells may hold anything but a newline."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell(text) for text in line)} |\n" for line in lines)


def cell(text: str) -> str:
    """Text that a table cell can hold."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def code(text: str) -> str:
    """As code, even where it contains a backtick; nothing where it is empty."""
    return f"``{text}``" if "`" in text else f"`{text}`" if text else ""


def page(title: str, source: str, *parts: str) -> str:
    """A whole page with a note on what it is generated from."""
    note = f"Generated from {source} when the site is built."
    return f"# {title}\n\n{note}\n\n" + "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


# ---------------------------------------------------------------- classes


@dataclasses.dataclass(frozen=True)
class Member:
    """One field of a declared class, as its source has it."""

    name: str
    annotation: str
    default: str
    meaning: str


def members(cls: type) -> Iterator[Member]:
    """The annotated fields of a class, each with the docstring below it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for at, node in enumerate(body.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        meaning = ""
        match body.body[at + 1 : at + 2]:
            case [ast.Expr(value=ast.Constant(value=str(text)))]:
                meaning = text
        default = "" if node.value is None else ast.unparse(node.value)
        yield Member(node.target.id, ast.unparse(node.annotation), default, meaning)


def is_declared(found: object) -> bool:
    """Whether it is a class whose fields are worth a table: a pydantic model or a dataclass of ours."""
    return isinstance(found, type) and (issubclass(found, BaseModel) or dataclasses.is_dataclass(found))


def related(root: type) -> list[type]:
    """The class, its bases of the same kind, and every such class that a field of one of them names."""
    seen: list[type] = []
    waiting = [root]
    while waiting:
        cls = waiting.pop(0)
        if cls in seen or not is_declared(cls) or cls is BaseModel:
            continue
        seen.append(cls)
        waiting += [base for base in cls.__bases__ if is_declared(base)]
        for hint in get_type_hints(cls).values():
            waiting += list(classes_in(hint))
    return seen


def classes_in(hint: Any) -> Iterator[type]:
    """The declared classes in an annotation, however deep."""
    if is_declared(hint):
        yield hint
    for inner in get_args(hint):
        yield from classes_in(inner)


def class_section(cls: type) -> str:
    """A heading, the docstring and a table of the fields; nothing for a class without fields."""
    rows = [(code(m.name), code(m.annotation), code(m.default), m.meaning) for m in members(cls)]
    if not rows:
        return ""
    return f"## {cls.__name__}\n\n{inspect.getdoc(cls) or ''}\n\n" + table(
        ("field", "type", "default", "meaning"), rows
    )


def class_page(title: str, source: str, roots: Sequence[type], *before: str) -> str:
    """A page with a section for each class that the roots lead to."""
    found: list[type] = []
    for root in roots:
        found += [cls for cls in related(root) if cls not in found]
    return page(title, source, *before, *(class_section(cls) for cls in found))


# ---------------------------------------------------------------- pages


def commands() -> str:
    """Every command with its help."""
    return page("Commands", "the commands' own help (`--help`)", *_help(cli, None))


def _help(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(
        command, parent=parent, info_name=command.name if parent else "assay9", max_content_width=100
    )
    text = command.get_help(context)
    yield f"## `{context.command_path}`\n\n```text\n{text.rstrip()}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _help(inner, context)


def targets() -> str:
    """Every target that comes with the suite."""
    rows = []
    for name in names():
        target = load(name)
        left = "; ".join(f"{layer}: {why}" for layer, why in target.left_out.items())
        rows.append((code(name), code(target.kind), target.title, ", ".join(default_layers(target)), left))
    head = ("target", "kind", "what it is", "layers of a default run", "left out of it")
    kinds_ = [
        (code(kind.name), kind.title, ", ".join(CAPABILITIES[one] for one in sorted(kind.capabilities)))
        for kind in kinds().values()
    ]
    return page(
        "Targets",
        "`conformance/targets/` and `conformance/sut/`",
        table(head, rows),
        "## Kinds\n\n" + table(("kind", "what it is", "what it has"), kinds_),
    )


def target_toml() -> str:
    """The keys of a target's TOML, kind by kind, and of a profile."""
    rows = [(code(kind.name), kind.title, ", ".join(sorted(kind.capabilities))) for kind in kinds().values()]
    roots: list[type] = [*(kind.model for kind in kinds().values()), profiles.Profile]
    source = "the kinds in `conformance/sut/` and `conformance/profiles/model.py`"
    return class_page("Target TOML", source, roots, table(("kind", "what it is", "capabilities"), rows))


def _modules(package: str) -> Iterator[ModuleType]:
    """Every module of a package."""
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def record() -> str:
    """What record.jsonl and the files beside it hold."""
    roots = [
        value
        for value in vars(models).values()
        if is_declared(value) and value.__module__ == models.__name__ and not value.__name__.startswith("_")
    ]
    return class_page("The record of a run", "`conformance/evidence/models.py`", roots)


def nine_p() -> str:
    """Every 9P2000.L message."""
    found = [value for value in vars(messages).values() if isinstance(value, type) and issubclass(value, Message)]
    found = [cls for cls in found if cls is not Message]
    sections = []
    for family in dict.fromkeys(cls.family for cls in found):
        rows = [
            (
                code(cls.__name__),
                str(cls.type),
                " ".join(code(f"{field.name}[{field.kind.name.lower()}]") for field in cls.fields),
                (inspect.getdoc(cls) or "").replace(":data:", ""),
            )
            for cls in found
            if cls.family == family
        ]
        sections.append(f"## {family}\n\n" + table(("message", "number", "fields after `tag`", "meaning"), rows))
    return page("9P2000.L messages", "`protocol/messages.py`", *sections)


def findings() -> str:
    """Every finding code."""
    rows = [(code(name), meaning) for name, meaning in CODES.items()]
    return page("Finding codes", "`conformance/checks.py`", table(("code", "meaning"), rows))


def soak() -> str:
    """Faults and workloads of the soak."""
    known = [
        (
            code(kind.name),
            kind.title,
            ", ".join(
                [*([CAPABILITIES[kind.needs]] if kind.needs else []), *(["root on the host"] if kind.root else [])]
            ),
        )
        for kind in faults.KINDS.values()
    ]
    work = [
        (code(w.name), w.title, ", ".join(code(f"{key}={value}") for key, value in w.options.items()))
        for w in soak_workloads.WORKLOADS.values()
    ]
    return page(
        "Soak workloads and faults",
        "`soak/workloads/` and `soak/faults/`",
        "## Workloads\n\n" + table(("workload", "what it does", "options (`--set NAME.KEY=VALUE`)"), work),
        "## Faults\n\n" + table(("fault", "what it does", "needs"), known),
    )


def overview() -> str:
    """How many cases each family has."""
    counted: dict[tuple[str, str], list[Case]] = {}
    for c in sorted(CASES.values(), key=lambda c: (LAYERS.index(c.layer), c.family)):
        counted.setdefault((c.layer, c.family), []).append(c)
    rows = [
        (
            f"[{layer}](cases-{layer}.md)",
            family,
            str(len(found)),
            " ".join(sorted({code(m) for c in found for m in c.covers})),
        )
        for (layer, family), found in counted.items()
    ]
    return page("Cases", "the `@case` declarations", table(("layer", "family", "cases", "requests covered"), rows))


def _requests(found: Iterable[Case]) -> str:
    return " ".join(sorted({code(name) for c in found for name in c.covers}))


def packages() -> str:
    """Every package with the first paragraph of its docstring."""
    sections = []
    for root in PACKAGES:
        rows = []
        for module in _modules(root):
            if hasattr(module, "__path__"):
                first = (inspect.getdoc(module) or "").split("\n\n")[0]
                rows.append((code(module.__name__.replace(".", "/")), first))
        sections.append(f"## {root}\n\n" + table(("package", "what it holds"), rows))
    return page("Packages", "the packages' docstrings", *sections)


def cases(layer: str) -> str:
    """Every case of a layer."""
    sections = []
    mine = sorted((c for c in CASES.values() if c.layer == layer), key=lambda c: (c.family, c.id))
    for family in dict.fromkeys(c.family for c in mine):
        rows = [
            (
                code(c.id),
                c.requirement,
                c.severity,
                " ".join(code(name) for name in c.covers),
                c.source,
                ", ".join(decided.MEANING[by] for by in decided.of_case(c.id)),
            )
            for c in mine
            if c.family == family
        ]
        head = ("case", "requirement", "severity", "covers", "source", "decided by")
        sections.append(f"## {family}\n\n" + table(head, rows))
    return page(f"Cases of layer {layer}", f"`conformance/cases/{layer}/`", *sections)
