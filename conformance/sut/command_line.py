"""Command options: --help shows them in groups, and an empty value is refused in one line."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from conformance.options import F
from conformance.sut.options import GUEST, RUNNING, SERVER
from conformance.sut.registry import flags

T = TypeVar("T")


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


def options_of_kinds(function: Callable[..., T], *, soak: bool = False) -> Callable[..., T]:
    """Add the options that the kinds of targets declare, sorted by their headings; with `soak` those of soak runs.

    The command receives them as one argument, `options`: those given, by the fields of the kinds' options models.
    """
    chosen = [one for one in flags().values() if one.flag.soak or not soak]

    @functools.wraps(function)
    def gathered(*arguments: Any, **given: Any) -> T:
        options = {one.field: value for one in chosen if (value := given.pop(one.key))}
        return function(*arguments, options=options, **given)

    by_heading = sorted(chosen, key=lambda one: (GUEST, SERVER, RUNNING).index(one.flag.group))
    for one in reversed(by_heading):  # click reverses the order of decorators
        shape: dict[str, Any] = {"is_flag": True} if one.switch else {"type": WORD, "multiple": one.many}
        metavar = {} if one.switch else {"metavar": one.flag.metavar or None}
        under(one.flag.group)(one.flag.name, one.key, help=one.flag.help, **shape, **metavar)(gathered)
    return gathered
