"""The reference server with a fault in front of it, as one program: `wrong_server.py FAULT UNIX-SOCKET EXPORT`."""

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
    """Tsymlink of `hang` is never answered, and from then on no Trenameat of anybody: it waits for the same lock. All
    else is served."""

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
    """Tlock is not implemented, and says so."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return frame(m.Rlerror(request.tag, EOPNOTSUPP)) if isinstance(request, m.Tlock) else request


class HangsUp(Fault):
    """Tlock and types that there are not end the connection."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return HANG_UP if isinstance(request, m.Tlock) else request

    def on_undecoded(self, raw: bytes) -> bytes | None:
        return HANG_UP


class PassesOver(Fault):
    """Tlock and types that there are not are left without a reply."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return None if isinstance(request, m.Tlock) else request

    def on_undecoded(self, raw: bytes) -> bytes | None:
        return None


class HangsUpOnTlock(Fault):
    """Tlock ends the connection, a type that there is not is refused: that is a fault, not an unsupported message."""

    def on_request(self, request: Message) -> Message | bytes | None:
        return HANG_UP if isinstance(request, m.Tlock) else request


def main(fault: type[Fault], address: Path, export: Path) -> None:
    """Serve for ever."""
    inner = f"{address}.inner"
    Path(inner).unlink(missing_ok=True)
    serve = [sys.executable, "-m", "reference_server", "serve", str(export), "--unix", inner]
    served = subprocess.Popen(dying_with_parent(serve))
    wait_until(lambda: listens(Path(inner), served.pid), 300.0, "the reference server did not come up")
    Proxy(fault, inner, address, export)
    threading.Event().wait()


if __name__ == "__main__":
    main(globals()[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]))
