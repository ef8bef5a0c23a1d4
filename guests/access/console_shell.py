"""Commands and files in the guest over a port of its console: the `Shell` role without any network."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Sequence

from guests.access.launcher import SocketLineChannel
from guests.access.shell import Result, Shell
from guests.host.lines import LineChannel

_RUN = b"""
import base64, json, os, signal, subprocess, sys
asked = json.loads(sys.stdin.readline())
argv, program = asked["argv"], None
try:
    program = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/root",
                               start_new_session=True)
    out, err = program.communicate(base64.b64decode(asked["stdin"]), asked["timeout"])
    answer = {"status": program.returncode}
except subprocess.TimeoutExpired:
    os.killpg(program.pid, signal.SIGKILL)
    out, err = program.communicate()
    answer = {"timeout": True}
except OSError as e:
    out, err, answer = b"", str(e).encode(), {"status": 127}
answer.update(out=base64.b64encode(out).decode(), err=base64.b64encode(err).decode())
sys.stdout.write(json.dumps(answer) + "\\n")
sys.stdout.flush()
"""
"""Run one command: a JSON line in, a JSON line out."""

_PROGRAM = "import os; os.chdir('/root'); os.execvp({first!r}, {argv!r})"
_GRACE = 15.0


class PortShell(Shell):
    """Programs over ports of the machine's console, one port each while it runs."""

    def __init__(self, start: Callable[[bytes], SocketLineChannel], alive: Callable[[], bool]) -> None:
        self._start, self._alive = start, alive

    @property
    def alive(self) -> bool:
        return self._alive()

    def run(self, argv: Sequence[str] | str, timeout: float = 60.0, stdin: bytes = b"") -> Result:
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(argv)
        asked = {"argv": words, "timeout": timeout, "stdin": base64.b64encode(stdin).decode()}
        channel = self._start(_RUN)
        try:
            channel.send(json.dumps(asked).encode() + b"\n")
            answer = json.loads(channel.recv_line(timeout + _GRACE))
        finally:
            channel.close()
        if "timeout" in answer:
            raise TimeoutError(f"{shlex.join(words)[:80]} ran into its time limit")
        out, err = (base64.b64decode(answer[name]).decode("utf-8", "surrogateescape") for name in ("out", "err"))
        # as in a shell and SSH: a killed program ends with 128 + the signal's number
        return Result(answer["status"] if answer["status"] >= 0 else 128 - answer["status"], out, err)

    def open_channel(self, argv: Sequence[str] | str) -> LineChannel:
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(argv)
        return self._start(_PROGRAM.format(first=words[0], argv=words).encode())

    def close(self) -> None:
        """See ``Shell.close``: there is no connection to close."""
