"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def results_option(
    option: Callable[..., Any] = click.option, what: str = "The directory for run directories."
) -> Callable[[F], F]:
    """--results, made by `option`: `click.option`, or the same under a heading."""
    add: Callable[[F], F] = option(
        "--results",
        type=click.Path(path_type=Path),
        default=Path("results"),
        show_default=True,
        metavar="DIR",
        help=what,
    )
    return add


def json_option(function: F, what: str = "Print JSON, for programs.") -> F:
    """--json: `as_json` is true if a program reads the output."""
    return click.option("--json", "as_json", is_flag=True, help=what)(function)


def durations_option(function: F) -> F:
    """--durations: `runs` that show how long cases take."""
    what = "Balance by how long cases took there (repeatable)."
    return click.option("--durations", "runs", multiple=True, metavar="RUN", help=what)(function)
