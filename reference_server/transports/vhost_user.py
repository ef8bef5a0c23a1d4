"""A device at a unix socket, for one vhost-user front end after another.

The rule of this module: a connection that ends, well or badly, leaves one log line at most, and the device waits for
the next front end.

One thread serves one socket: its messages and its queues' kicks. While a front end is connected, others are rejected.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time

from protocol.vhost_user import Malformed
from reference_server.transports.admission import Sparing
from reference_server.transports.front_end import FrontEnd, Gone
from reference_server.virtio.device import Device

log = logging.getLogger("reference_server")

_ACCEPT_PAUSE = 0.5


class DeviceListener:
    """A device at a bound socket; one front end at a time."""

    def __init__(self, sock: socket.socket, device: Device, *, in_band: bool = True) -> None:
        """`in_band`: offer notifications in messages, which some front ends prefer if offered."""
        self._sock, self._device, self._in_band = sock, device, in_band
        self.name = device.name
        """How a user would write the address."""
        self._refused = Sparing()
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
        self._ended = False

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(8)
        self._thread.start()

    def close(self) -> None:
        """End the connection, and wait until everything of it is released."""
        self._ended = True
        os.write(self._woken, b"x")
        if self._thread.is_alive():
            self._thread.join()
        self._sock.close()
        os.close(self._wake)
        os.close(self._woken)

    def _serve(self) -> None:
        while not self._ended:
            try:
                with selectors.DefaultSelector() as selector:
                    selector.register(self._wake, selectors.EVENT_READ)
                    selector.register(self._sock, selectors.EVENT_READ)
                    while not self._ended:
                        if any(key.fileobj is self._sock for key, _ in selector.select()):
                            self._front_end(self._sock.accept()[0], selector)
            except OSError as error:
                if self._ended:
                    break
                self._refused.warn(f"{self.name}: a front end was given up: {error.strerror}")
                time.sleep(_ACCEPT_PAUSE)
            except Exception:
                if self._ended:
                    break
                log.exception("%s: a front end was given up", self.name)
                time.sleep(_ACCEPT_PAUSE)
        self._device.close()

    def _front_end(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        front = FrontEnd(sock, self._device, selector, self._in_band)
        try:
            while not self._ended:
                events = selector.select(front.timeout())
                for key, _ in events:
                    if key.data is not None:
                        key.data()
                    elif key.fileobj is self._sock and not front.leaves():
                        self._sock.accept()[0].close()
                        self._refused.warn(f"{self.name}: a second front end was turned away")
                front.tick()
        except (Gone, Malformed) as why:
            if str(why):
                log.warning("%s: front end given up: %s", self.name, why)
        finally:
            front.close()
