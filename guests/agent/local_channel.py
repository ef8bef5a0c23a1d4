"""The channel to an agent that runs on this host as a child process."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from guests.agent.packing import agent_file
from guests.errors import InfrastructureError
from guests.host.lines import LineReader
from guests.host.processes import reap


class LocalChannel(LineReader):
    """An agent run on this host as a child process; `prefix` runs it elsewhere (unshare, setpriv, ...).

    `prepare` is called in the child before it becomes the agent (see subprocess.Popen's preexec_fn). `source` is a
    program instead of our own agent.
    """

    def __init__(
        self,
        prefix: tuple[str, ...] = (),
        stderr: Path | None = None,
        prepare: Callable[[], None] | None = None,
        source: Path | None = None,
    ) -> None:
        super().__init__()
        errors = stderr.open("ab") if stderr else None
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-I", str(source or agent_file())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors or subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # the run handles Ctrl-C at a terminal: the agent ends with its channel
            preexec_fn=prepare,  # noqa: PLW1509 - system calls only, and no thread of ours holds a lock meanwhile
        )
        if errors:
            errors.close()
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None and self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin
        self._selector.register(self._out, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        """Process id of the agent's router."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status of the agent's router, as in `subprocess`; None while it runs."""
        return reap(self._process)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._in.write(view) or 0 :]

    def _receive(self, timeout: float) -> bytes:
        if not self._selector.select(timeout):
            raise TimeoutError
        return self._out.read(1 << 20) or b""

    def _ended(self) -> InfrastructureError:
        return InfrastructureError("the agent outside ended")

    def close(self) -> None:
        self._selector.close()
        self._in.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._out.close()
