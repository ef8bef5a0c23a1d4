"""What the user sees when something goes wrong: one line, and a file with the details of an unexpected error."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import click

from guests.words import unknown

_NO_COMMAND = re.compile(r"No such command ['\"](.*?)['\"]")
_NO_CHOICE = re.compile(r"'([^']*)' is not one of ")


def refused(error: click.ClickException) -> str:
    """Click's refusal as one line, with the nearest option or command if one was misspelt."""
    ctx = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if isinstance(error, click.NoSuchOption):
        known = [name for parameter in ctx.command.get_params(ctx) for name in parameter.opts] if ctx else []
        message = unknown("option", error.option_name, known)
    elif ctx is not None and isinstance(ctx.command, click.Group) and (wrong := _NO_COMMAND.match(message)):
        message = unknown("command", wrong[1], ctx.command.list_commands(ctx))
    elif isinstance(error, click.BadParameter) and (wrong := _NO_CHOICE.search(message)):
        choices = getattr(getattr(error.param, "type", None), "choices", ())
        message = unknown(f"value of {_spelt(error)}", wrong[1], map(str, choices))
    message = message[:1].lower() + message[1:].removesuffix(".")
    where = f" (see `{ctx.command_path} --help`)" if ctx is not None and "did you mean" not in message else ""
    return f"assay9: {message}{where}"


def _spelt(error: click.BadParameter) -> str:
    """The option or argument as spelled on the command line."""
    names = error.param.opts if isinstance(error.param, click.Option) else [str(error.param_hint or "the argument")]
    return max(names, key=len)


def too_long(error: OSError) -> str:
    """The refusal of a path with a name that no file system accepts; shows its beginning."""
    return f"the path {os.fsdecode(error.filename or '')[:40]!r}... is too long: a name has at most 255 bytes"


def unexpected(error: BaseException) -> str:
    """One line for an unexpected exception. Its traceback is kept in a file, which the line names."""
    kept = _keep(error)
    where = f"the details are in {kept}" if kept else "its details could not be kept: no directory is writable"
    if isinstance(error, OSError) and error.strerror:
        named = f": {error.filename}" if error.filename else ""
        return f"assay9: a system call failed: {error.strerror}{named}; {where}"
    said = " ".join(str(error).split())[:200]
    return (
        f"assay9: internal error, a defect of assay9 and not of the target: {type(error).__name__}"
        f"{f': {said}' if said else ''}; {where}"
    )


def _keep(error: BaseException) -> Path | None:
    """Write the traceback with the command line and the versions; returns the path of that file."""
    text = "\n".join(
        [
            f"assay9 {version('assay9')}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {' '.join(map(repr, sys.argv))}",
            f"directory: {os.getcwd() if Path('.').exists() else '(removed)'}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    name = f"assay9-internal-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for directory in (Path(tempfile.gettempdir()), Path(".")):
        with contextlib.suppress(OSError):
            file = directory.absolute() / name
            with file.open("a", encoding="utf-8", errors="backslashreplace") as out:
                out.write(text)
            return file
    return None
