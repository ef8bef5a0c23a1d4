"""The contents of a cache directory: recorded when it is made, compared before it is used.

``contents.json`` lists every file with its size, whether it can be executed, a hash of its two ends and a hash of the
whole, and every symbolic link with its target. All but the last hash are cheap enough to be checked in each run; they
detect truncated, empty, removed and overwritten files. The hashes of whole files detect the rest, and are checked once
a day.

It knows nothing about what is cached; see ``guests.cache.cached`` for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

from guests.errors import InfrastructureError

CONTENTS = "contents.json"
MANIFEST = "manifest.json"
VERIFIED = ".verified"
"""Its modification time is when all hashes were last checked."""
UNLISTED = frozenset({CONTENTS, VERIFIED, "used"})
"""Files that change while a directory is in use and are not part of its contents."""
VERIFY_AFTER = 86_400.0
"""Seconds after which the whole hashes are due again."""
_FORMAT = 1
_END = 4096
"""Bytes at the beginning and at the end of a file whose hash is checked each time."""


def write_contents(directory: Path) -> None:
    """Record what ``directory`` contains now. Raises OSError."""
    files, links = {}, {}
    for name in _names(directory):
        path = directory / name
        if path.is_symlink():
            links[name] = os.readlink(path)
        elif path.is_file():
            files[name] = {**_outline(path), "sha256": _whole(path)}
    temporary = directory / f".{CONTENTS}.{os.getpid()}"
    temporary.write_text(json.dumps({"format": _FORMAT, "files": files, "links": links}, indent=1), encoding="utf-8")
    temporary.rename(directory / CONTENTS)
    mark_verified(directory)


def listed(directory: Path) -> bool:
    """Whether its contents are recorded."""
    return (directory / CONTENTS).exists()


def damage(directory: Path, *, whole: bool) -> str | None:
    """The difference from the record in a few words, or None. ``whole`` checks every byte."""
    try:
        contents = json.loads((directory / CONTENTS).read_text(encoding="utf-8"))
        files, links = contents["files"], contents["links"]
        known = contents["format"] == _FORMAT
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{CONTENTS} cannot be read"
    if not known:
        return f"{CONTENTS} is of another format"
    try:
        for name, target in links.items():
            if not (directory / name).is_symlink() or os.readlink(directory / name) != target:
                return f"the link {name} is gone or leads elsewhere"
        for name, said in files.items():
            if (wrong := _difference(directory / name, name, said)) is not None:
                return wrong
            if whole and _whole(directory / name) != said["sha256"]:
                return f"the content of {name} is not what was written"
    except (OSError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read: {error}"
    return None


def verification_due(directory: Path) -> bool:
    """Whether no whole check was made within a day."""
    try:
        age = time.time() - (directory / VERIFIED).stat().st_mtime
    except OSError:
        return True
    return not 0 <= age < VERIFY_AFTER


def mark_verified(directory: Path) -> None:
    """Record that all hashes are correct now; does nothing if the cache is not writable."""
    with contextlib.suppress(OSError):
        (directory / VERIFIED).touch()
        os.utime(directory / VERIFIED)


def write_manifest(directory: Path, when: str = "made_at", **facts: object) -> None:
    """Write ``manifest.json``: these facts, and the current time as ``when``. Raises OSError."""
    facts[when] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    (directory / MANIFEST).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def read_manifest(directory: Path, remedy: str) -> dict[str, Any]:
    """``manifest.json``: what was made there, when and from what. Raises InfrastructureError, one line."""
    path = directory / MANIFEST
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InfrastructureError(f"{path} cannot be read: {error}", remedy) from None
    if not isinstance(loaded, dict):
        raise InfrastructureError(f"{path} holds no JSON object", remedy)
    return loaded


def _names(directory: Path) -> list[str]:
    found = []
    for where, directories, names in os.walk(directory):
        below = Path(where).relative_to(directory)
        links = [name for name in directories if os.path.islink(os.path.join(where, name))]
        found += [str(below / name) for name in (*names, *links)]
    return sorted(name for name in found if name not in UNLISTED and not name.startswith(f".{CONTENTS}."))


def _outline(path: Path) -> dict[str, Any]:
    seen = path.stat()
    with path.open("rb") as file:
        ends = file.read(_END)
        if seen.st_size > _END:
            file.seek(max(_END, seen.st_size - _END))
            ends += file.read(_END)
    return {
        "size": seen.st_size,
        "executable": bool(seen.st_mode & stat.S_IXUSR),
        "ends": hashlib.sha256(ends).hexdigest(),
    }


def _difference(path: Path, name: str, said: dict[str, Any]) -> str | None:
    try:
        seen = _outline(path)
    except FileNotFoundError:
        return f"{name} is gone"
    if seen["size"] != said["size"]:
        return f"{name} has {seen['size']} bytes instead of {said['size']}"
    if seen["executable"] != said["executable"]:
        return f"{name} can{'' if seen['executable'] else 'not'} be executed"
    return None if seen["ends"] == said["ends"] else f"the content of {name} is not what was written"


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
