"""A program of `soak.inside`, pushed into the guest through the agent, started there and polled.

Only the agent's calls are used, so it works wherever there is an agent. Its files are on the guest's own file system,
never on the share under test.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import soak.inside
from conformance.errors import InfrastructureError
from guests.agent.link import AgentBug, AgentLink, CallError, CallHung, WorkerKilled
from guests.host.endings import interference, sent_signal

_SOURCES = Path(soak.inside.__file__).parent
_EXIT_CODE = 49
"""Where the wait status is in /proc/PID/stat, counted from the state. Source: proc(5), field 52."""
_FAILURES = (InfrastructureError, OSError, CallHung, AgentBug)


class InsideProgram:
    """One program and its directory in the guest."""

    def __init__(self, link: AgentLink, module: str, directory: str, config: dict[str, Any]) -> None:
        self._link, self._module, self.directory = link, module, directory
        self._config = {**config, "dir": directory, "out": f"{directory}/out.jsonl", "keep": f"{directory}/keep"}
        self._read, self._rest, self._pid, self._fd = 0, b"", 0, -1
        self.done = False
        """It said that it has finished."""

    def place(self) -> None:
        """Push it into its own empty directory. Raises InfrastructureError if that fails."""
        calls = self._link.calls
        calls.rmtree(self.directory)
        calls.run(["mkdir", "-p", f"{self.directory}/keep", f"{self.directory}/soak/inside"])
        calls.create(f"{self.directory}/soak/__init__.py", b"")
        for source in sorted(_SOURCES.glob("*.py")):
            calls.create(f"{self.directory}/soak/inside/{source.name}", source.read_bytes())

    def configure(self, more: dict[str, Any]) -> None:
        """Add to its configuration."""
        self._config.update(more)

    def start(self) -> None:
        """Start it where it was placed."""
        calls = self._link.calls
        calls.create(f"{self.directory}/config.json", json.dumps(self._config).encode())
        line = f"cd {self.directory} && exec python3 -E -s -m {self._module} config.json >log 2>&1 </dev/null"
        self._pid = calls.start_program(["/bin/sh", "-c", line])

    def poll(self) -> list[dict[str, Any]]:
        """Its new lines since the last poll. One call to the agent, unless there are many."""
        data = b""
        try:
            if self._fd < 0:
                self._fd = self._link.calls.open(self._config["out"], 0)
            while True:
                part = self._link.calls.pread(self._fd, 1 << 16, self._read)
                self._read += len(part)
                data += part
                if len(part) < 1 << 16:
                    break
        except CallError:
            self._fd = -1  # the file does not exist yet, or the agent was requested to close its descriptors
        *lines, self._rest = (self._rest + data).split(b"\n")
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.done = self.done or any(event["e"] == "done" for event in events)
        return events

    def running(self) -> bool:
        """Whether its process lives."""
        return self._stat()[:1] not in ([], ["Z"], ["X"])

    def interference(self, what: str) -> WorkerKilled | None:
        """The error where another process ended or stopped it, which `what` names; else None."""
        fields = self._stat()
        if fields[:1] == ["T"]:
            return WorkerKilled(f"{what} is stopped: process {self._pid} of the guest got SIGSTOP", "find the sender")
        status = int(fields[_EXIT_CODE]) if fields[:1] == ["Z"] and len(fields) > _EXIT_CODE else 0
        sent = sent_signal(-os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
        return None if sent is None else WorkerKilled(*interference(what, sent))

    def _stat(self) -> list[str]:
        """What /proc/PID/stat says from the state (field 3) on; empty where there is no such process."""
        try:
            text = str(self._link.calls.read_text(f"/proc/{self._pid}/stat"))
        except CallError:
            return []
        return text.rpartition(")")[2].split()

    def answer(self, place: str, text: str) -> None:
        """Answer what it asked, in the file that it waits for."""
        path = f"{self.directory}/{place}"
        self._link.calls.create(path + ".new", text.encode())
        self._link.calls.rename(path + ".new", path)

    def finish_soon(self) -> None:
        """No iteration after the current one."""
        with contextlib.suppress(CallError):
            self._link.calls.create(f"{self.directory}/stop", b"")

    def hold(self) -> None:
        """Make it wait before its next iteration; it then reports `held`."""
        with contextlib.suppress(CallError):
            self._link.calls.create(f"{self.directory}/hold", b"")

    def release(self) -> None:
        """No longer hold it."""
        with contextlib.suppress(CallError):
            self._link.calls.unlink(f"{self.directory}/hold")

    def forget(self) -> None:
        """The agent closed its descriptors (before an unmount); reopen the file at the next poll."""
        self._fd = -1

    def last_words(self) -> str:
        """The end of its standard error."""
        try:
            return str(self._link.calls.read_text(f"{self.directory}/log"))[-4000:]
        except CallError:
            return ""

    def fetch(self, path: str, limit: int = 1 << 20) -> bytes:
        """A file of the guest, for the artefacts."""
        data: bytes = self._link.calls.slurp(path, limit)
        return data

    def kill(self) -> None:
        """End it in any state; never raises."""
        if self._pid:
            with contextlib.suppress(*_FAILURES):
                self._link.calls_with(timeout=10.0).end_program(self._pid)
            self._pid = 0
