"""The index of all cases, without importing them: ids, layers, families, parameters, the names that -k matches.

The user's words are checked against it before anything starts. Collecting all cases takes seconds, so a separate
process (`python -m conformance.catalogue.index`) does it once for each state of the sources, and the result is cached.
Layers and families are names of files and cost nothing.

Rule of this module: it reads sources and the cache, and never imports a case into the process of a run, where pytest
has to import it first in order to rewrite its assertions.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.errors import SuiteError
from guests.errors import InfrastructureError
from guests.host import paths

CASES = Path(__file__).parent.parent / "cases"
_KEPT = 8
"""Indexes kept in the cache: several checkouts may share it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One case, with all its parameters except the mount."""

    id: str
    layer: str
    family: str
    parameters: tuple[str, ...]
    """Of `OPEN-004[rdonly]`: `rdonly`. Empty for a case without parameters."""
    names: tuple[str, ...]
    """What `-k` is matched against: names of modules, functions and marks, ids with and without parameters."""
    needs: tuple[str, ...]
    """The features that it needs (`conformance.features`)."""


def layers() -> tuple[str, ...]:
    """The layers that have cases."""
    return tuple(sorted({path.parent.name for path in CASES.glob("*/test_*.py")}))


def families(layer: str = "*") -> tuple[str, ...]:
    """The families that have cases in that layer, or in any."""
    return tuple(sorted({path.stem.removeprefix("test_") for path in CASES.glob(f"{layer}/test_*.py")}))


@functools.cache
def index() -> dict[str, Entry]:
    """All cases by id: from the cache, or collected now. Raises SuiteError when they cannot be collected."""
    file = _file()
    kept = _read(file) if file is not None else None
    return kept if kept is not None else _collected(file)


def warm() -> None:
    """Put the index into the cache unless it is there. `setup.sh` calls it, so that the first refusal is quick."""
    index()


def state() -> str:
    """A digest of every source that can change the collection."""
    seen = hashlib.sha256(sys.version.encode())
    root = CASES.parent.parent
    for path in sorted([*(root / "conformance").rglob("*.py"), *(root / "protocol").glob("*.py")]):
        found = path.stat()
        seen.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return seen.hexdigest()[:16]


def _file() -> Path | None:
    with contextlib.suppress(InfrastructureError):  # without the cache the cases are collected again, that is all
        return paths.cache_dir() / f"cases-{state()}.json"
    return None


def _read(file: Path) -> dict[str, Entry] | None:
    """The cached index; None if there is none, or it is of another version or damaged."""
    try:
        seen, _, text = file.read_bytes().partition(b"\n")
        if seen != _seal(text):
            return None
        return {one["id"]: _entry(one) for one in json.loads(text)}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _collected(file: Path | None) -> dict[str, Entry]:
    """Collect in another process, and keep the result in `file`."""
    argv = [sys.executable, "-m", "conformance.catalogue.index"]
    done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=1800)
    try:
        loaded = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise SuiteError(f"the cases cannot be collected: {said[-1] if said else 'no output'}") from None
    if file is not None:
        _keep(file, done.stdout)
    return {one["id"]: _entry(one) for one in loaded}


def _entry(read: dict[str, Any]) -> Entry:
    """One case from the cache. Raises TypeError if it is of another version of the suite."""
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in read.items()}
    return Entry(**made)


def _seal(text: bytes) -> bytes:
    """The first line of the file, a checksum of the rest: nobody could select a case that was lost from the cache."""
    return hashlib.sha256(text).hexdigest().encode()


def _keep(file: Path, text: bytes) -> None:
    with contextlib.suppress(OSError):
        new = file.with_suffix(f".{os.getpid()}.tmp")
        new.write_bytes(_seal(text) + b"\n" + text)
        new.replace(file)
        kept = sorted(file.parent.glob("cases-*.json"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)


def _collect() -> Iterable[Entry]:
    """What pytest collects, with pytest's own names for -k."""
    import pytest  # noqa: PLC0415 - 120 ms, and only the process that collects needs it
    from _pytest.mark import KeywordMatcher  # noqa: PLC0415 - as above

    parameters: dict[str, dict[str, None]] = {}
    names: dict[str, set[str]] = {}
    where: dict[str, tuple[str, str]] = {}
    needs: dict[str, tuple[str, ...]] = {}

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            for item in session.items:
                case = getattr(getattr(item, "function", None), "assay9_case", None)
                if case is None:
                    continue
                callspec = getattr(item, "callspec", None)
                shown = callspec.id if callspec is not None else ""
                where[case.id] = (case.layer, case.family)
                needs[case.id] = tuple(sorted(case.needs))
                parameters.setdefault(case.id, {})
                if shown:
                    parameters[case.id][shown] = None
                names.setdefault(case.id, set()).update(
                    {case.id, f"{case.id}[{shown}]", *KeywordMatcher.from_item(item)._names}
                )

    without = ("hypothesispytest", "cacheprovider", "terminal", "xdist")
    quiet = [word for plugin in without for word in ("-p", f"no:{plugin}")]
    status = pytest.main([str(CASES), "--collect-only", "-o", "addopts=", *quiet], plugins=[Collector()])
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"pytest ended with status {int(status)}")
    for id in sorted(where):
        yield Entry(id, *where[id], tuple(parameters[id]), tuple(sorted(names[id])), needs[id])


if __name__ == "__main__":
    json.dump([asdict(entry) for entry in _collect()], sys.stdout)
