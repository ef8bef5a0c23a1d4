"""The index of cases in the cache: whatever happens to the file, no case is missing because of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from conformance.catalogue import index


def cut_out_one_case(text: bytes) -> bytes:
    """Valid JSON with one case fewer; the first line stays."""
    first, _, rest = text.partition(b"\n")
    return first + b"\n" + b"[" + rest[rest.index(b"}") + 2 :].lstrip(b", ")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A kept index. The index in the cache may be gone: other checkouts share the cache, and the oldest is removed."""
    directory = tmp_path / "cache"
    directory.mkdir()
    index._keep(directory / "cases-0.json", json.dumps([asdict(one) for one in index.index().values()]).encode())
    return directory / "cases-0.json"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"[]",
        lambda text: b"null\n[]",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(b"MODE-001", b"MODE-0O1", 1),
        lambda text: b"\xff" + text,
        cut_out_one_case,
    ],
)
def test_a_damaged_index_is_collected_again(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    real, file = index.index(), tmp_path / "cases-x.json"
    file.write_bytes(damage(kept.read_bytes()))
    collected: list[Path | None] = []
    monkeypatch.setattr(index, "_file", lambda: file)

    def collect(where: Path | None) -> dict[str, index.Entry]:
        collected.append(where)
        return real

    monkeypatch.setattr(index, "_collected", collect)
    assert index.index.__wrapped__() == real
    assert collected == [file]


def test_what_was_kept_is_read(kept: Path) -> None:
    real = index.index()
    assert index._read(kept) == real and "MODE-001" in real
