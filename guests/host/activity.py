"""Progress for a person: on a terminal at least every five seconds, elsewhere a line a minute.

On a terminal a status line at the bottom shows the current work, and permanent lines scroll above it. Elsewhere (a
pipe, a CI log) only permanent lines are printed, and the status once a minute.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from guests.host.progress import Progress

if TYPE_CHECKING:
    from rich.live import Live

PLAIN = 60.0
"""Seconds between two plain progress lines."""
OFTEN = 0.5
"""Seconds between two pictures on a terminal."""


class Activity:
    """Shows `picture()`, one line, for as long as the block lasts; empty while there is nothing to show.

    Writes to standard error: standard output is for results. A thread draws, so the status is updated while the caller
    waits for a program or a guest.
    """

    def __init__(
        self,
        picture: Callable[[], str],
        stream: TextIO | None = None,
        terminal: bool | None = None,
        plain: float = PLAIN,
    ) -> None:
        self.stream = stream or sys.__stderr__ or sys.stderr
        self.terminal = self.stream.isatty() if terminal is None else terminal
        self._picture, self.plain = picture, plain
        self._live: Live | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._said_at = time.monotonic()

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._said_at = time.monotonic()
        if self._live is not None:
            self._live.console.print(text, soft_wrap=True)
        else:
            with contextlib.suppress(OSError, ValueError):  # the reader is gone
                self.stream.write(f"{text}\n")
                self.stream.flush()

    def heard(self) -> None:
        """Another line was printed: do not print a progress line for a while."""
        self._said_at = time.monotonic()

    def __enter__(self) -> Activity:
        if self.terminal:
            self._live = _live(self.stream, self._picture)
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._go_on_saying, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal clean; a second call does nothing."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        self._over.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _go_on_saying(self) -> None:
        while not self._over.wait(max(0.01, self._said_at + self.plain - time.monotonic())):
            if time.monotonic() - self._said_at >= self.plain:
                said = self._picture()
                self._said_at = time.monotonic()
                if said:
                    self.line(f"{time.strftime('%H:%M:%S')}  {said}")


def _live(stream: TextIO, picture: Callable[[], str]) -> Live:
    from rich.console import Console  # noqa: PLC0415 - 40 ms, and only a terminal needs it
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    class Visible(Console):
        """A process that is killed must not leave a terminal without its cursor."""

        def show_cursor(self, show: bool = True) -> bool:
            return False

    console = Visible(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
    return Live(
        console=console,
        refresh_per_second=1 / OFTEN,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        get_renderable=lambda: Text(picture(), no_wrap=True, overflow="ellipsis"),
    )


@contextlib.contextmanager
def shown(doing: str = "", stream: TextIO | None = None, terminal: bool | None = None) -> Iterator[Progress]:
    """A function for progress lines; the last one is shown with its time until the block ends."""
    now: tuple[str, float] = (doing, time.monotonic())

    def picture() -> str:
        what, begun = now
        return f"{what} ({duration(time.monotonic() - begun)})" if what else ""

    activity = Activity(picture, stream, terminal)

    def say(line: str) -> None:
        nonlocal now
        now = (line, time.monotonic())
        activity.line(line)

    with activity:
        yield say


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s, 45 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
