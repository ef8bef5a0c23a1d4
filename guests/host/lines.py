"""Lines from a stream of bytes, each with a time limit."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Protocol

from guests.errors import InfrastructureError


class LineBuffer:
    """Bytes in, lines out; scans each byte once, however long a line is."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def add(self, data: bytes) -> None:
        """Append what was received."""
        self._data += data

    def take(self) -> bytes | None:
        """The next whole line without its newline, or None."""
        end = self._data.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._data)
            return None
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        self._searched = 0
        return line


class LineChannel(Protocol):
    """A two-way stream of lines to a program in the guest."""

    def send(self, data: bytes) -> None:
        """Write all of ``data``; raises InfrastructureError when the channel is gone."""

    def recv_line(self, timeout: float) -> bytes:
        """The next line without its newline.

        Raises TimeoutError after ``timeout`` seconds (the channel stays usable), InfrastructureError if the far end is
        gone (with its last standard error).
        """

    def close(self) -> None:
        """End the program and the channel; never raises."""


class LineReader(LineChannel, ABC):
    """The reading half of a channel, over any source of bytes."""

    def __init__(self) -> None:
        self._lines = LineBuffer()

    def recv_line(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while (line := self._lines.take()) is None:
            try:
                data = self._receive(max(deadline - time.monotonic(), 0.0))
            except TimeoutError:
                raise TimeoutError(f"no answer within {timeout:g} s") from None
            except OSError as error:
                raise InfrastructureError(f"the channel is gone: {error}") from error
            if not data:
                raise self._ended()
            self._lines.add(data)
        return line

    @abstractmethod
    def _receive(self, timeout: float) -> bytes:
        """Some bytes, none at the end of the stream. Raises TimeoutError after ``timeout`` seconds, else OSError."""

    @abstractmethod
    def _ended(self) -> InfrastructureError:
        """The error that the program at the far end ended, with its last output."""
