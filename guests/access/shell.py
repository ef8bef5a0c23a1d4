"""Commands and files in a guest, over any channel."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from guests.errors import InfrastructureError
from guests.host.lines import LineChannel


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. Output that is not UTF-8 keeps its bytes as surrogates (``surrogateescape``)."""

    status: int
    """Exit status; 128 + signal number; -1 when the channel reports none."""
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.status == 0


class Shell(Protocol):
    """Commands and files in a guest, as root."""

    @property
    def alive(self) -> bool:
        """The connection is up, as far as this side knows."""

    def run(self, argv: Sequence[str] | str, timeout: float = 60.0, stdin: bytes = b"") -> Result:
        """Run a program (a list, quoted for the shell) or a shell command line (a string).

        A status other than 0 is returned, not raised. Raises TimeoutError when it runs longer than
        ``timeout`` seconds, InfrastructureError when the connection is lost.
        """

    def push(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Copy a file from the host into the guest. Raises InfrastructureError."""
        name = shlex.quote(remote)
        done = self.run(f"umask 077; cat > {name} && chmod {mode:o} {name}", 300.0, stdin=local.read_bytes())
        if not done.ok:
            raise InfrastructureError(f"copying {local.name} to {remote} in the guest: {done.stderr.strip()}")

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the guest to the host. Raises InfrastructureError."""
        done = self.run(["cat", "--", remote], 300.0)
        if not done.ok:
            raise InfrastructureError(f"copying {remote} from the guest: {done.stderr.strip()}")
        local.write_bytes(done.stdout.encode("utf-8", "surrogateescape"))

    def open_channel(self, argv: Sequence[str] | str) -> LineChannel:
        """Start a program whose standard input and output are the channel."""

    def close(self) -> None:
        """Close the connection; never raises."""
