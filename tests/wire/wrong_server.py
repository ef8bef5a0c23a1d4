"""The reference server behind a fault, as one program: `wrong_server.py FAULT UNIX-SOCKET EXPORT`."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from guests.host.processes import dying_with_parent
from guests.host.sockets import listens
from guests.host.waiting import wait_until

sys.path.insert(0, str(Path(__file__).parents[2]))

from protocol import messages as m
from protocol.codec import frame
from protocol.constants import EOPNOTSUPP
from protocol.registry import Message
from tests.wire.proxy import HANG_UP, Fault, Proxy


class Right(Fault):
    """No fault."""


class HoldsALock(Fault):
    """Tsymlink of `hang` is never answered. From then on no Trenameat is answered either: it waits for the same lock.
    All other requests are served."""

    held = threading.Event()

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tsymlink) and bytes(request.name) == b"hang":
            self.held.set()
            return None
        return None if isinstance(request, m.Trenameat) and self.held.is_set() else request


class Talks(HoldsALock):
    """Writes 60,000 bytes to its log for each Tstatfs, `first` before and `last` after them, and dies of Treadlink."""

    def on_request(self, request: Message) -> Message | bytes | None:
        if isinstance(request, m.Tstatfs):
            print("first", "x" * 60000, "last", flush=True)
        if isinstance(request, m.Treadlink):
            print("words of this case", flush=True)
            signal.raise_signal(signal.SIGABRT)
        return request


class NoLocks(Fault):
    """Tlock is not implemented, and its reply says so."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return frame(m.Rlerror(request.tag, EOPNOTSUPP)) if isinstance(request, m.Tlock) else request


class HangsUp(Fault):
    """Tlock and unknown types end the connection."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return HANG_UP if isinstance(request, m.Tlock) else request

    def on_undecoded(self, raw: bytes) -> bytes | None:
        return HANG_UP


class PassesOver(Fault):
    """Tlock and unknown types get no reply."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return None if isinstance(request, m.Tlock) else request

    def on_undecoded(self, raw: bytes) -> bytes | None:
        return None


class HangsUpOnTlock(Fault):
    """Tlock ends the connection, an unknown type is refused: this is a fault, not an unsupported message."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return HANG_UP if isinstance(request, m.Tlock) else request


def main(fault: type[Fault], address: Path, export: Path) -> None:
    """Serve forever."""
    inner = f"{address}.inner"
    Path(inner).unlink(missing_ok=True)
    serve = [sys.executable, "-m", "reference_server", "serve", str(export), "--unix", inner]
    served = subprocess.Popen(dying_with_parent(serve))
    wait_until(lambda: listens(Path(inner), served.pid), 300.0, "the reference server did not come up")
    Proxy(fault, inner, address, export)
    threading.Event().wait()


if __name__ == "__main__":
    main(globals()[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]))
