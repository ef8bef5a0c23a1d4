"""Which lines of the server ran, written down as each runs for the first time: what guides `assay9 explore`.

The rule of this module: it changes nothing of what the server does but its speed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import CodeType, FrameType
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

AGAIN = b"again\n"
"""What stands in the file where lines count as new again."""


class Lines:
    """Appends `module.py:number` to a file for each line of this package, once for each process."""

    def __init__(self, path: str) -> None:
        """Raises OSError if the file cannot be appended to."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._seen: set[tuple[CodeType, int]] = set()

    def begin(self) -> None:
        """Watch the calls of this thread, and all of those that start from now on. SIGUSR1 makes every line a new one,
        and the file says so."""
        signal.signal(signal.SIGUSR1, self._again)
        threading.settrace(self._called)
        sys.settrace(self._called)

    def _again(self, number: int, frame: FrameType | None) -> None:
        self._seen.clear()
        os.write(self._fd, AGAIN)

    def _called(self, frame: FrameType, event: str, value: Any) -> Any:
        name = frame.f_code.co_filename
        return self._ran if name.startswith(_ROOT) and name != __file__ else None

    def _ran(self, frame: FrameType, event: str, value: Any) -> Any:
        if event == "line" and (line := (frame.f_code, frame.f_lineno)) not in self._seen:
            self._seen.add(line)
            module = frame.f_code.co_filename.removeprefix(_ROOT)
            os.write(self._fd, f"{module}:{frame.f_lineno}\n".encode())
        return self._ran
