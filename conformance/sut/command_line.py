"""Command options: --help shows them in groups, and an empty value is refused in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from conformance.options import F
from conformance.sut.options import GUEST, RUNNING, SERVER
from conformance.sut.registry import flags


class Word(click.ParamType[str]):
    """A string on the command line: not empty, one line."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text.strip():
            self.fail("the value is empty: give one", param, ctx)
        if "\0" in text or "\n" in text:
            self.fail(f"{text!r} has more than one line", param, ctx)
        return text


WORD = Word()


class GroupedOption(click.Option):
    """An option that --help shows under a heading."""

    def __init__(self, *arguments: Any, group: str = "Options", **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help shows its options under their headings, in the order of their declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "Help"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def under(heading: str) -> Callable[..., Callable[[F], F]]:
    """`click.option` under that heading of --help."""
    return functools.partial(click.option, cls=GroupedOption, group=heading)


def options_of_kinds(function: F, *, soak: bool = False) -> F:
    """Add the options that the kinds of targets declare, sorted by their headings; with `soak` those of soak runs."""
    declared = sorted(flags().values(), key=lambda one: (GUEST, SERVER, RUNNING).index(one.flag.group))
    for one in reversed(declared):  # click reverses the order of decorators
        if soak and not one.flag.soak:
            continue
        shape: dict[str, Any] = {"is_flag": True} if one.switch else {"type": WORD, "multiple": one.many}
        metavar = {} if one.switch else {"metavar": one.flag.metavar or None}
        add = click.option(
            one.flag.name, one.key, cls=GroupedOption, group=one.flag.group, help=one.flag.help, **shape, **metavar
        )
        function = add(function)
    return function
