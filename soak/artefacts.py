"""What is kept of a failure, within a disk budget; a success keeps nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from conformance.vfs.deployment import Deployment
from guests.agent.link import CallError
from soak.program import InsideProgram


class Artefacts:
    """The directory of a run with the files of failures."""

    def __init__(self, directory: Path, budget_mb: int) -> None:
        self.directory, self._budget = directory, budget_mb << 20

    def _room(self) -> int:
        used = sum(p.stat().st_size for p in self.directory.rglob("*") if p.is_file())
        return self._budget - used

    def _write(self, folder: str, name: str, data: bytes) -> str | None:
        room = self._room()
        if room < 4096:
            return None
        (self.directory / folder).mkdir(parents=True, exist_ok=True)
        path = self.directory / folder / name
        path.write_bytes(data[:room])
        return str(path.relative_to(self.directory.parent))

    def save(
        self, instance: str, number: int, data: dict[str, Any], program: InsideProgram, more: dict[str, bytes]
    ) -> list[str]:
        """Save the failure's text, the guest's files it names, and `more`; returns their paths relative to the run."""
        folder = f"{instance}-{number:06}"
        saved = [self._write(folder, "what.txt", f"{data['what']}\n\n{data.get('detail', '')}\n".encode())]
        for path in data.get("files", ()):
            with contextlib.suppress(CallError):
                saved.append(self._write(folder, Path(path).name, program.fetch(path, 16 << 20)))
        saved += [self._write(folder, name, content) for name, content in more.items()]
        return [path for path in saved if path is not None]

    def save_console(self, deployment: Deployment, mark: Any, folder: str) -> None:
        """Save the guest's console since the mark, and the end of each log of a machine."""
        with contextlib.suppress(OSError):
            for number, (source, text) in enumerate(deployment.excerpts(mark)):
                self._write(folder, f"console-{number}.txt", f"{source}\n{text}\n".encode())
            for log in deployment.logs().values():
                if log.is_file():
                    self._write(folder, log.name, log.read_bytes()[-(1 << 18) :])
