"""Runs real programs inside, with progress reports and without leaving processes behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from soak.inside.common import Context, Finding, die_with_parent

SAFE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/tmp"}


class Done:
    """The output of a program and how it ended."""

    def __init__(self, status: int, out: bytes, err: bytes, seconds: float) -> None:
        self.status, self.out, self.err, self.seconds = status, out, err, seconds

    @property
    def text(self) -> str:
        """All its output, standard error last."""
        return (self.out + self.err).decode(errors="replace")


def run(
    context: Context,
    argv: list[str],
    cwd: str,
    env: dict[str, str] | None = None,
    check: bool = True,
    progress: Callable[[bytes], Any] | None = None,
    limit: float = 0.0,
) -> Done:
    """Run a program to its end. Raises Finding if it fails, unless `check` is off.

    `progress` gets its output as it comes; `limit` is in seconds (0: none), after which it is killed, which is a
    Finding.
    """
    begun = time.monotonic()
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env={**SAFE, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads in here
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = bytearray(), bytearray()
    try:
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ, out)
            waiting.register(process.stderr, selectors.EVENT_READ, err)
            while waiting.get_map():
                for key, _ in waiting.select(1.0):
                    part = os.read(key.fd, 1 << 16)
                    if not part:
                        waiting.unregister(key.fileobj)
                    key.data.extend(part)
                    if progress is not None and part:
                        progress(part)
                context.alive(-1)
                if limit and time.monotonic() - begun > limit:
                    raise Finding(f"{argv[0]} did not end within {limit:.0f} s", " ".join(argv))
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()
    done = Done(process.returncode, bytes(out), bytes(err), time.monotonic() - begun)
    if check and done.status:
        raise Finding(f"{argv[0]} failed with status {done.status}", " ".join(argv) + "\n" + done.text[-8000:])
    return done
