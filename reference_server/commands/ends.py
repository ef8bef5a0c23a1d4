"""How a command ends other than well: in one line, with its exit status."""

from __future__ import annotations

from typing import IO, Any

import click

FAILED = 1
"""Exit status: a request failed unexpectedly, or a replayed reply differs."""
UNAVAILABLE = 3
"""Exit status: this machine cannot do it now; the command itself is correct."""


def ended(text: str, status: int) -> SystemExit:
    """Print that line; the exception to raise."""
    click.echo(f"assay9: {text}", err=True)
    return SystemExit(status)


class Wrong(click.ClickException):
    """The command line asks for something impossible: exit status 2, in one line."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """One line."""
        click.echo(f"assay9: {self.message}", file=file, err=file is None)
