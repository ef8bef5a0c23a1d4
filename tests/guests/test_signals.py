"""The effect of signals on a process, tested in separate processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.end_to_end.moments import ordinary_signals

HEAD = """
    import os, signal, subprocess, sys, time
    from guests.host import signals
    def send(name): os.kill(os.getpid(), getattr(signal, name))
"""


def ends(program: str) -> tuple[int, str]:
    """The exit status and the output of a program that sends signals to itself."""
    code = textwrap.dedent(HEAD) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=ordinary_signals,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_before_the_work_and_after_it_a_signal_ends_the_process(name: str, status: int) -> None:
    assert ends(f"signals.install(); send('{name}'); print('went on')") == (status, "")
    afterwards = "signals.install(); signals.working(); signals.idle()"
    assert ends(f"{afterwards}; send('{name}'); print('went on')") == (status, "")


def test_the_first_signal_raises_and_the_others_leave_the_clean_up_alone() -> None:
    status, said = ends("""
        signals.install(); signals.working()
        try:
            send("SIGTERM")
            print("went on")
        except KeyboardInterrupt as e:
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                send(name)
            print("cleaned up after", e)
        sys.exit(signals.exit_status())
    """)
    assert (status, said) == (143, "cleaned up after SIGTERM\n")


def test_while_results_are_kept_a_signal_changes_the_status_only() -> None:
    status, said = ends("""
        signals.install(); signals.working(); signals.finishing()
        send("SIGINT")
        print("kept", signals.received().name)
        sys.exit(signals.exit_status())
    """)
    assert (status, said) == (130, "kept SIGINT\n")


def test_a_swallowed_interrupt_is_raised_again_where_a_loop_asks() -> None:
    status, said = ends("""
        signals.install(); signals.working()
        class Swallows:
            def __del__(self): send("SIGINT")
        sys.unraisablehook = lambda _: None
        Swallows()
        print("went on")
        try:
            signals.check()
        except KeyboardInterrupt:
            print("stopped")
    """)
    assert (status, said) == (0, "went on\nstopped\n")


def test_what_must_be_whole_is_done_first() -> None:
    status, said = ends("""
        signals.install(); signals.working()
        try:
            with signals.deferred():
                send("SIGTERM")
                print("made")
            print("went on")
        except KeyboardInterrupt:
            with signals.deferred():
                print("not again")
    """)
    assert (status, said) == (0, "made\nnot again\n")


def test_a_clean_up_that_hangs_is_ended_by_a_later_signal() -> None:
    status, said = ends("""
        signals.install(); signals.working()
        try:
            send("SIGTERM")
        except KeyboardInterrupt:
            signals.PATIENCE = -1.0
            send("SIGINT")
            print("went on")
    """)
    assert (status, said) == (143, "")


def test_a_child_that_is_known_gets_the_signal_too() -> None:
    status, said = ends("""
        signals.install(); signals.working()
        child = subprocess.Popen(["sleep", "1000"])
        signals.pass_on_to(child)
        try:
            send("SIGHUP")
        except KeyboardInterrupt:
            print(signal.Signals(-child.wait()).name)
    """)
    assert (status, said) == (0, "SIGTERM\n")


@pytest.mark.parametrize("worker", [False, True])
def test_what_was_ignored_from_the_start_stays_ignored(worker: bool) -> None:
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    program = f"{ignored}; signals.install(worker={worker}); send('SIGINT'); print('went on')"
    assert ends(program) == (0, "went on\n")


def test_a_worker_starts_with_signals_blocked_and_loses_none() -> None:
    blocked = "signal.pthread_sigmask(signal.SIG_BLOCK, signals.HANDLED); send('SIGTERM')"
    assert ends(f"{blocked}; signals.install(worker=True); print('went on')") == (143, "")
