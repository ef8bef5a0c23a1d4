"""One start of a machine: the reported output of its program is that of the last attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

from guests.machines.started import Started


class Program(Started):
    """Any command."""

    program = "the program"
    letter = "t"

    def wait_ready(self, limit: float) -> None:
        assert self.process is not None
        self.process.wait(limit)


@pytest.mark.usefixtures("private_runtime")
def test_the_last_words_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    """A second QEMU, on other ports, must not be refused because of the first one's message."""
    started = Program(tmp_path / "log")
    try:
        started._claim()
        for command in ("echo no port; exit 1", "exit 1"):
            started._spawn(["sh", "-c", command])
            started.wait_ready(60.0)
        assert started.why_ended() == "the program ended with status 1"
    finally:
        started.stop()
