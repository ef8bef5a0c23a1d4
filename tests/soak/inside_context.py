"""A program's context without a runner: it keeps the program's output and answers its questions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from soak.inside.common import MARK, Context, fresh, manifest


class Alone(Context):
    """A context whose outside vantage sees the same as inside, or answers as configured."""

    def __init__(self, directory: Path, answer: Callable[..., Any] | None = None, **config: Any) -> None:
        place = directory / "program"
        (place / "keep").mkdir(parents=True)
        super().__init__(
            {
                "root": str(directory / f"{MARK}-x"),
                "keep": str(place / "keep"),
                "dir": str(place),
                "out": str(place / "out.jsonl"),
                "name": "x",
                **config,
            }
        )
        self.notes: list[str] = []
        self._answer = answer
        fresh(self.root)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ask(self, **question: Any) -> Any:
        if self._answer is not None:
            return self._answer(**question)
        assert manifest(self.root)
        return ""
