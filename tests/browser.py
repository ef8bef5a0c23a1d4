"""Headless Chromium, driven by its DevTools protocol over a WebSocket: shows what a reader of a page sees.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

from guests.host.processes import dying_with_parent, end
from tests.waiting import PATIENT, eventually

CHROMIUM = shutil.which("chromium")


class Page:
    """One tab."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: WebSocketClientConnection) -> None:
        self._loop, self._connection, self._numbers = loop, connection, itertools.count(1)

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command of the protocol and return its result. Raises AssertionError if the browser refuses."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, parameters), PATIENT))

    async def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._numbers)
        await self._connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            text = await self._connection.read_message()
            assert text is not None, "the browser has ended"
            said = json.loads(text)
            if said.get("id") == number:
                assert "error" not in said, said["error"]
                return said["result"]

    def open(self, address: str) -> None:
        """Load a page and wait until its scripts have run."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        eventually(lambda: self.of("document.readyState === 'complete' && location.protocol !== 'about:'"))

    def of(self, expression: str) -> Any:
        """The value of an expression of JavaScript; for a promise, its result."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Set the size of the screen in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def dark(self) -> None:
        """Ask pages for their dark colours, as a reader may."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])

    def picture(self, file: Path) -> None:
        """What is on the screen, as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def sheets(self) -> int:
        """The pages as the browser prints them on A4."""
        pdf = base64.b64decode(self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.7)["data"])
        return len(re.findall(rb"/Type\s*/Page\b", pdf))


@contextmanager
def browser(place: Path) -> Iterator[Page]:
    """A browser with its own profile in that directory, and its only tab."""
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    argv = [CHROMIUM, *flags, f"--user-data-dir={place}", "about:blank"]
    # Chromium leaves a directory in TMPDIR when it is ended; the path of a socket in it must be short.
    temporary = tempfile.mkdtemp(prefix="a9-")
    process = subprocess.Popen(
        dying_with_parent(argv, signal.SIGTERM),
        env={**os.environ, "TMPDIR": temporary},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    loop = asyncio.new_event_loop()
    try:
        file = place / "DevToolsActivePort"
        eventually(lambda: file.exists() and "\n" in file.read_text())
        port = file.read_text().split("\n", maxsplit=1)[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENT) as answer:
            (tab,) = [one for one in json.load(answer) if one["type"] == "page"]

        async def connect() -> WebSocketClientConnection:
            return await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=1 << 30)

        connection = loop.run_until_complete(connect())
        page = Page(loop, connection)
        page.call("Page.enable")
        yield page
        connection.close()
    finally:
        end(process, 10.0)
        loop.close()
        shutil.rmtree(temporary, ignore_errors=True)
