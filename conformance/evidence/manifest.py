"""SHA256SUMS of a run's directory: what the run wrote, in the form that `sha256sum -c` reads.

Hashes of files that are written once are kept; only reports, which can be written again at any time, get new ones. So a
record that was changed by hand is detected whenever it is read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from conformance.errors import UsageError
from guests.host.files import content, opened

NAME = "SHA256SUMS"
NOT_LISTED = frozenset({NAME, "attestation.json", "attestation.json.sig"})
_EXPORTS = frozenset({"export", "outside"})
"""Directories that the system under test wrote to: whatever a guest left there."""


def write_manifest(run_dir: Path, renewed: frozenset[str]) -> None:
    """Hash the files of the directory: those of `renewed` again, the others only once. Raises OSError."""
    known = _read(run_dir / NAME)
    lines = []
    for path in sorted(files_of(run_dir)):
        name = path.relative_to(run_dir).as_posix()
        old = known.get(name) if name.partition("/")[0] not in renewed else None
        lines.append(f"{old or digest_of(path)}  {name}\n")
    new = run_dir / f".{NAME}.{os.getpid()}"
    new.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    os.replace(new, run_dir / NAME)


def check_file(path: Path) -> None:
    """Refuse a file of a run that differs from its manifest. Raises UsageError, or OSError if the file is gone.

    A file without a manifest is accepted: the run was killed, or is of an older version.
    """
    known = _read(path.parent / NAME).get(path.name)
    if known is not None and digest_of(path) != known:
        raise UsageError(
            f"{path} is not what the run wrote: its SHA-256 is not the one in {NAME}; get the run's directory again"
        )


def changed(run_dir: Path, but: frozenset[str] = frozenset()) -> str | None:
    """The first file that is there and is not what the run wrote; None if there is none, or no manifest.

    `but`: files and directories that do not matter, because they are about to be written again.
    """
    for name, digest in _read(run_dir / NAME).items():
        path = run_dir / name
        if name.partition("/")[0] not in but and path.is_file() and digest_of(path) != digest:
            return name
    return None


def differences(run_dir: Path) -> list[str]:
    """Differences from the manifest: files that changed, are missing, or are not listed. Raises UsageError."""
    if not (run_dir / NAME).is_file():
        raise UsageError(f"{run_dir} has no {NAME}: the run did not finish, or is of an older version")
    known = _read(run_dir / NAME)
    there = {path.relative_to(run_dir).as_posix(): path for path in files_of(run_dir)}
    found = [f"{name} is missing" for name in known if name not in there]
    found += [f"{name} is not listed" for name in there if name not in known]
    return found + [
        f"{name} was changed" for name, path in there.items() if known.get(name, "") not in ("", digest_of(path))
    ]


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(run_dir: Path) -> dict[str, str]:
    """Name -> SHA-256."""
    return _read(run_dir / NAME)


def _read(path: Path) -> dict[str, str]:
    try:
        text = content(path).decode(errors="surrogateescape")
    except FileNotFoundError:
        return {}
    pairs = (line.split("  ", 1) for line in text.splitlines() if "  " in line)
    return {name: digest for digest, name in pairs}


def files_of(run_dir: Path) -> Iterator[Path]:
    """The files that the run wrote, without the manifest itself and files that a guest left in the exports."""
    for directory, folders, names in os.walk(run_dir):
        folders[:] = [name for name in folders if name not in _EXPORTS]
        for name in names:
            path = Path(directory) / name
            hidden = name.startswith(".") or name in NOT_LISTED or "\n" in name
            if not hidden and path.is_file() and not path.is_symlink():
                yield path
