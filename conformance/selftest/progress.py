"""The results of a self-test so far, kept in a file, so that an interrupted one can continue."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from conformance.errors import UsageError
from conformance.evidence.host import CHECKOUT
from guests.host.files import content

_SOURCES = ("protocol", "reference_server", "guests", "conformance", "tests/mutants")


class Progress:
    """A file with a line for each tried fault; without a path nothing is kept."""

    def __init__(self, path: Path | None, words: str) -> None:
        """`words`: what the outcomes depend on besides the sources.

        Raises UsageError if the file is of other sources or words, or cannot be read.
        """
        self._path = path
        self.done: dict[str, dict[str, Any]] = {}
        """Name -> what was kept of it."""
        if path is None:
            return
        state = f"{_state()} {words}"
        try:
            lines = content(path).decode().splitlines() if path.exists() else []
            if not lines:
                path.write_text(json.dumps({"state": state}) + "\n", encoding="utf-8")
                return
            whole = [line for line in lines if line.endswith("}")]
            head, *rest = (json.loads(line) for line in whole)
            if whole != lines:  # the last line was incomplete
                path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
            self.done = {one["name"]: one for one in rest}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be used for progress: {error}") from None
        if head.get("state") != state:
            raise UsageError(f"{path} was written for other sources or another command line: name a new file")

    def keep(self, name: str, outcome: dict[str, Any]) -> None:
        """Add the outcome of `name`."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": name, **outcome}) + "\n")


def _state() -> str:
    found = hashlib.sha256()
    for path in sorted(path for name in _SOURCES for path in (CHECKOUT / name).rglob("*.*") if path.suffix in _KINDS):
        found.update(str(path.relative_to(CHECKOUT)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


_KINDS = frozenset({".py", ".toml"})
