"""Reads the golden frames of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from protocol import legacy, messages
from protocol.fields import Dialect, Qid
from protocol.registry import Message

FOLDER = Path(__file__).parent


class Golden(NamedTuple):
    """One golden frame."""

    origin: str
    """File and line."""
    dialect: Dialect
    message: Message
    frame: bytes


def read() -> Iterator[Golden]:
    """Every golden frame."""
    for path in sorted(FOLDER.glob("*.txt")):
        dialect = Dialect.L
        message: Message | None = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("dialect "):
                dialect = Dialect[line.split()[1]]
            elif message is None:
                names = {**messages.BY_NAME, **legacy.BY_NAME, "Qid": Qid, "bytes": bytes}
                message = eval(line, {"__builtins__": {}}, names)  # our own files, written by hand
            else:
                assert message is not None
                yield Golden(f"{path.name}:{number}", dialect, message, bytes.fromhex(line))
                message = None
