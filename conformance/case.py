"""The `@case` declaration: one requirement, one function, one stable id.

Rule of this module: everything the suite knows about a case before it runs is declared here and
nowhere else; reports, the message matrix and the gate read `Case` objects. It must not import pytest
fixtures, targets or evidence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from conformance.errors import SuiteError
from conformance.vocabulary import LAYERS, Layer, Severity

About = Literal["behaviour", "agreement"]
MOUNTED: tuple[Layer, ...] = ("vfs", "property", "sequence")
"""Layers whose cases make system calls on a share that is mounted."""
BY_NAME: tuple[Layer, ...] = ("application",)
"""More of them, which run only where the user or a target names them: they take minutes, and packages in the guest."""
ON_A_SHARE = (*MOUNTED, *BY_NAME)
"""All layers that need a share."""
CACHES = ("none", "readahead", "mmap", "loose", "fscache")
UNCACHED = ("none",)
"""Cache modes in which every read asks the server: only there is a change outside seen at once inside."""
WRITE_THROUGH = (*UNCACHED, "readahead")
"""Those in which what was written is at the server when write(2) returns."""
FRESH = (*WRITE_THROUGH, "mmap")
"""Those in which names and attributes are looked up again."""
KEPT = ("loose", "fscache")
"""The others: the guest keeps names and attributes."""
WRITE_BACK = ("mmap", *KEPT)
"""Those in which shared writable mappings exist (fs/9p/vfs_file.c)."""

_ID = re.compile(r"[A-Z][A-Z0-9]*(-[A-Z][A-Z0-9]*)*-\d{3}\Z")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One requirement of the suite, as declared beside its function.

    `covers` names T-messages that must cross while the case runs (checked against the guest's
    tracepoints); `caches` the cache modes of the mount in which the requirement has meaning;
    `cached_too` puts the case into the default run's subset for cache=mmap and cache=loose;
    `needs` the features without which the case cannot be driven (see `conformance.features`);
    `mount` names mount options that the case must have beside the cache mode ("posixacl");
    `about` what is judged: "behaviour" what calls do and what inside shows of it, "agreement" that inside and outside
    show the same: such a case cannot be driven where nothing outside can look at the files;
    `control` whether the same function must pass on a native file system first;
    `seconds` bounds what its calls inside take together.
    """

    id: str
    layer: Layer
    family: str
    requirement: str
    source: str
    severity: Severity
    covers: tuple[str, ...] = ()
    caches: tuple[str, ...] = CACHES
    cached_too: bool = False
    needs: tuple[str, ...] = ()
    mount: str = ""
    about: About = "behaviour"
    control: bool = True
    seconds: float = 60.0
    function: Callable[..., Any] = field(repr=False, compare=False)

    @property
    def location(self) -> str:
        """module:function, for `assay9 cases` and reports."""
        return f"{self.function.__module__}:{self.function.__qualname__}"


CASES: dict[str, Case] = {}


def case(
    id: str,
    *,
    covers: Iterable[type | str] = (),
    severity: Severity = "must",
    caches: Iterable[str] = CACHES,
    cached_too: bool = False,
    needs: Iterable[str] = (),
    mount: str = "",
    about: About = "behaviour",
    control: bool = True,
    seconds: float = 60.0,
) -> Callable[[_F], _F]:
    """Declare the decorated function a case.

    The docstring's text up to `Source:` is the requirement and is shown to users; what follows is
    its source (spec clause, man page, kernel or server code). Layer and family come from where the
    function is: `cases/<layer>/test_<family>.py`. Raises SuiteError at import for a bad or
    repeated id, and for a docstring without a source.
    """
    if not _ID.match(id):
        raise SuiteError(f"case id {id!r} is not of the form FAMILY-123")

    def declare(function: _F) -> _F:
        requirement, source = _split_docstring(id, function.__doc__)
        path = PurePath(function.__code__.co_filename)
        layer, family = path.parent.name, path.stem.removeprefix("test_")
        if layer not in LAYERS:
            raise SuiteError(f"case {id} is in {path.parent}, which is not a layer's folder")
        declared = Case(
            id=id,
            layer=layer,
            family=family,
            requirement=requirement,
            source=source,
            severity=severity,
            covers=tuple(c if isinstance(c, str) else c.__name__ for c in covers),
            caches=tuple(caches),
            cached_too=cached_too,
            needs=tuple(needs),
            mount=mount,
            about=about,
            control=control,
            seconds=seconds,
            function=function,
        )
        known = CASES.get(id)
        if known is not None and known.location != declared.location:
            raise SuiteError(f"case id {id} is declared twice: {known.location} and {declared.location}")
        CASES[id] = declared
        function.assay9_case = declared  # type: ignore[attr-defined]
        return function

    return declare


def _split_docstring(id: str, doc: str | None) -> tuple[str, str]:
    requirement, found, source = " ".join((doc or "").split()).partition("Source:")
    if not found or not requirement.strip() or not source.strip():
        raise SuiteError(f"case {id}: its docstring must state the requirement, then 'Source: ...'")
    return requirement.strip(), source.strip()
