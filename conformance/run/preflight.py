"""The checks of a run before anything starts: every word of its command line, and of its target's TOML.

Rule of this module: it starts nothing of the target and makes no run directory. Each refusal is one line: UsageError
for a wrong request (exit status 2), InfrastructureError for something missing on this machine (3).
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from conformance.catalogue import applications, index
from conformance.errors import UsageError
from conformance.run.request import Request
from conformance.sut.asked import asked_of
from conformance.sut.asked import check as check_asked
from conformance.sut.layers import check_layers, default_layers
from conformance.sut.registry import kind_of
from conformance.vfs.mount_options import for_all_cases
from guests.words import did_you_mean, shown, unknown

_MOUNT_WORDS = re.compile("cache|none|mmap|loose|readahead|fscache|msize|access|version|posixacl")

_vouched = False


@contextlib.contextmanager
def vouch() -> Iterator[None]:
    """Within the block a run of this process counts as checked, because the caller has called `check`."""
    global _vouched  # noqa: PLW0603 - one run at a time in a process
    _vouched = True
    try:
        yield
    finally:
        _vouched = False


def vouched() -> bool:
    """Whether the run of this process has been checked already."""
    return _vouched


def check(request: Request) -> str:
    """Refuse an impossible run. Returns why only one worker can use the target; empty if several can.

    Raises UsageError or InfrastructureError, one line.
    """
    target = request.target
    check_environment()
    check_words(request.layers, request.families)
    mounts = [for_all_cases(text) for text in request.mounts]
    layers = tuple(request.layers) or default_layers(target, request.options)
    try:
        check_layers(target, layers)
    except UsageError as error:
        raise UsageError(f"target {target.name}: {error}") from None
    check_words(layers, request.families)
    asked = asked_of(target, request.options, layers)
    if not asked.use.mounted:
        for flag, given in (("--mount", mounts), ("--mounts", request.matrix), ("--control", request.control)):
            if given:
                raise UsageError(f"{flag} does not apply: {asked.use.mounts_nothing}")
    if mounts and request.matrix:
        raise UsageError("--mount and --mounts all exclude each other: --mounts all has every mount")
    alone = kind_of(target).one_at_a_time(asked)
    _check_jobs(request.jobs, alone)
    if request.expression:
        check_expression(request.expression, layers, request.families)
    check_asked(replace(asked, workers=request.jobs or 1))
    check_results(request.results)
    return alone


def check_words(layers: Sequence[str], families: Sequence[str]) -> None:
    """Refuse a layer or a family that has no cases, or a family that none of these layers has. Raises UsageError."""
    for layer in layers:
        if layer not in index.layers():
            raise UsageError(unknown("layer", layer, index.layers()))
    for family in families:
        if family not in index.families():
            raise UsageError(unknown("family", family, index.families()))
        elsewhere = [layer for layer in index.layers() if family in index.families(layer)]
        if layers and not set(layers) & set(elsewhere):
            raise UsageError(
                f"no family {family} in layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}: "
                f"it belongs to {', '.join(elsewhere)}"
            )


def _check_jobs(jobs: int | None, alone: str) -> None:
    if jobs is None or jobs == 1:
        return
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: give a number of jobs, 1 or more")
    if alone:
        raise UsageError(f"--jobs {jobs}: {alone}: leave --jobs out, or say --jobs 1")


def check_expression(expression: str, layers: Sequence[str], families: Sequence[str] = ()) -> None:
    """Refuse a -k that is not an expression, or that matches no case of these layers and families. Raises UsageError.

    An expression that may match the name of a mount, or by negation, is left to pytest.
    """
    from _pytest.mark.expression import Expression  # noqa: PLC0415 - 80 ms, and -k is rare

    try:
        compiled = Expression.compile(expression)
    except SyntaxError as error:
        raise UsageError(f"-k {shown(expression)} is not an expression: {error.msg} at column {error.offset}") from None
    except Exception as error:  # noqa: BLE001 - its own ParseError in older versions of pytest
        raise UsageError(f"-k {shown(expression)} is not an expression: {error}") from None
    if re.search(r"\bnot\b", expression) or _MOUNT_WORDS.search(expression):
        return
    matching = [
        entry
        for entry in index.index().values()
        if compiled.evaluate(lambda word, names=entry.names, /, **_: _occurs(word, names))
    ]
    own = applications.applications() if applications.LAYER in layers else ()  # the user's own cases are in no index
    if any(compiled.evaluate(lambda word, name=name, /, **_: _occurs(word, [name])) for name in own):
        return
    if any(entry.layer in layers and (not families or entry.family in families) for entry in matching):
        return
    which = f"no case of {', '.join(layers)}{' in family ' + ', '.join(families) if families else ''} matches"
    words = re.findall(r"[\w:+\-.\[\]\\/]+", expression)
    if matching:
        hint = f": cases of {', '.join(sorted({f'{entry.layer}/{entry.family}' for entry in matching}))} do"
    elif len(words) == 1 and (near := did_you_mean(words[0], index.index())):
        hint = near
    else:
        hint = ": `assay9 cases` lists ids and families"
    raise UsageError(f"{which} -k {shown(expression)}{hint}")


def _occurs(word: str, names: Sequence[str]) -> bool:
    """Matches like -k of pytest: anywhere in a name, ignoring case."""
    return any(word.casefold() in name.casefold() for name in names)


def check_environment() -> None:
    """Refuse an environment variable whose value cannot be used. Raises UsageError."""
    scratch = os.environ.get("ASSAY9_SCRATCH")
    if scratch is not None:
        if not os.path.isabs(scratch):
            raise UsageError(f"ASSAY9_SCRATCH={shown(scratch)}: give the absolute path of a directory")
        _check_writable(Path(scratch), f"ASSAY9_SCRATCH={shown(scratch)}")
    scale = os.environ.get("ASSAY9_RING_SCALE", "1")
    if not (scale.isascii() and scale.isdigit()):
        raise UsageError(f"ASSAY9_RING_SCALE={shown(scale)}: give a whole number")


def check_results(results: Path) -> None:
    """Refuse a directory for results in which no file can be made. Raises UsageError. The directory is not changed."""
    _check_can_be_made(results, f"--results {shown(str(results))}")


def check_file(file: Path, option: str) -> None:
    """Refuse an option's file that cannot be written. Raises UsageError. The file is not changed."""
    what = f"{option} {shown(str(file))}"
    try:
        if file.exists():
            file.open("ab").close()
            return
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: it cannot be written ({_why(error)})") from None
    _check_can_be_made(file.parent, what)


def _check_can_be_made(directory: Path, what: str) -> None:
    made: list[Path] = []
    try:
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        _check_writable(directory, what)
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: nothing can be written there ({_why(error)})") from None
    finally:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _check_writable(directory: Path, what: str) -> None:
    try:
        with tempfile.TemporaryFile(dir=directory, prefix=".assay9-"):
            pass
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: nothing can be written there ({_why(error)})") from None


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
