"""What the user sees while something takes long, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import threading

from guests.host.activity import Activity, duration, shown
from tests.waiting import eventually

PATIENT = 60.0
"""Seconds after which a test gives up, however busy the machine is."""


class Stream(io.StringIO):
    """Lets a test wait for what a thread writes."""

    def wait_for(self, pattern: str, times: int = 1) -> str:
        eventually(lambda: len(re.findall(pattern, self.getvalue())) >= times, self.getvalue)
        return self.getvalue()


def test_a_terminal_is_drawn_on_while_the_caller_waits() -> None:
    stream, pictures = Stream(), iter(range(10_000))
    with Activity(lambda: f"picture {next(pictures)}.", stream, terminal=True):
        stream.wait_for(r"picture \d+\.", times=4)
    assert "\x1b[?25l" not in stream.getvalue(), "the cursor is not hidden: a killed process could not show it again"


def test_lines_stay_above_the_picture() -> None:
    stream = Stream()
    with Activity(lambda: "the picture", stream, terminal=True) as activity:
        activity.line("a line that stays [bold]")
        stream.wait_for("the picture", times=2)
    text = stream.getvalue()
    assert "a line that stays [bold]\n" in text, "nothing in it is markup"
    assert text.rstrip().endswith("\x1b[2K"), "the picture is gone at the end"


def test_elsewhere_lines_are_plain_and_what_is_done_is_said_again() -> None:
    stream = Stream()
    with Activity(lambda: "doing this", stream, terminal=False, plain=0.02) as activity:
        activity.line("begun")
        text = stream.wait_for(r"\d\d:\d\d:\d\d  doing this\n", times=2)
    assert text.startswith("begun\n") and "\x1b" not in text


def test_nothing_to_show_is_no_line() -> None:
    stream, asked = Stream(), threading.Event()

    def picture() -> str:
        if asked.is_set():
            return "now"
        asked.set()
        return ""

    with Activity(picture, stream, terminal=False, plain=0.01):
        stream.wait_for("now")
    assert all(line.endswith("  now") for line in stream.getvalue().splitlines())


def test_what_was_said_last_is_shown_with_its_time() -> None:
    stream = Stream()
    with shown("building", stream, terminal=True) as say:
        stream.wait_for(r"building \(\d+ s\)")
        say("compiling")
        stream.wait_for(r"compiling \(\d+ s\)")


def test_a_reader_that_went_away_does_not_end_the_work() -> None:
    stream = Stream()
    with shown("building", stream, terminal=False) as say:
        stream.close()
        say("compiling")


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 59.4, 61, 7500)] == ["0 s", "59 s", "1 min 01 s", "2 h 05 min"]
