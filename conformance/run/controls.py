"""The cases that held on the control file system, in this run or in an earlier one with the same guest and sources.

A case must hold on a native file system before it judges the share. Whether it does depends on the case, the guest's
kernel, that file system and the suite's own sources; while all of these are unchanged it need not run again. Rule of
this module: it remembers only cases that held. A case that failed runs again each time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from conformance.case import Case
from conformance.catalogue import index
from guests.agent import link
from guests.errors import InfrastructureError
from guests.host import paths

ControlMode = Literal["first", "always", "never"]
_KEPT = 16
"""Files of this kind in the cache: one for each guest and state of the sources."""
_OWN = "conformance.cases."
"""Where the sources of the key are; a case from elsewhere may change without them."""


class Place(Protocol):
    """The part of a deployment that decides whether a case holds on its control file system."""

    control: link.AgentLink
    control_root: str
    image: str

    def environment(self) -> dict[str, Any]: ...


class Controls:
    """Queried once for each case; `directory` names a case with its parameters."""

    def __init__(self, mode: ControlMode) -> None:
        self.mode = mode
        self._file: Path | None = None
        self._held: set[str] = set()

    def begin(self, place: Place) -> None:
        """Read the results of earlier runs on such a guest."""
        if self.mode != "first" or self._file is not None:
            return
        with contextlib.suppress(InfrastructureError, OSError):
            seen = place.control.calls.statfs(place.control_root)
            key = _key(place.environment(), place.image, seen)
            self._file = paths.cache_dir() / f"controls-{key}.txt"
            _clean(self._file)
            self._held.update(self._file.read_text(encoding="utf-8", errors="replace").splitlines())

    def held(self, case: Case, directory: str) -> bool:
        """Whether that case is known to hold."""
        return self.mode == "first" and _remembered(case) and directory in self._held

    def remember(self, case: Case, directory: str) -> None:
        """Remember that the case has held."""
        if self._file is None or not _remembered(case) or directory in self._held:
            return
        self._held.add(directory)
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(f"{directory}\n")  # one write: workers append to one file


def _remembered(case: Case) -> bool:
    return case.function.__module__.startswith(_OWN)


def _key(environment: Mapping[str, Any], image: str, seen: Mapping[str, Any]) -> str:
    """A key for a guest, its control file system and the state of the sources that run there."""
    digest = hashlib.sha256(index.state().encode())
    for part in (environment.get("guest_kernel", ""), image, seen.get("f_type"), seen.get("f_bsize")):
        digest.update(f"\0{part}".encode())
    for path in sorted(Path(link.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _clean(file: Path) -> None:
    others = sorted(file.parent.glob("controls-*.txt"), key=lambda path: path.stat().st_mtime)
    for old in others[:-_KEPT]:
        if old != file:
            old.unlink(missing_ok=True)
