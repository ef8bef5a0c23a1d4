"""A command that signals itself at a chosen moment of its run, so that no test depends on the speed of the machine.

The command runs with a `sitecustomize` module that waits for the moment: the import of a module, the opening of a file,
the start of a process, or the interpreter's end. A moment in a forked process counts, too. Then the command gets
one signal, or one every fifth of a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

DISPOSITION = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CODE = """
import os, signal, sys
moment, number, again = (os.environ.pop(name, "") for name in ("A9_MOMENT", "A9_SIGNAL", "A9_AGAIN"))
fired, command = [], os.getpid()

def fire():
    if fired:
        return
    fired.append(1)
    if again:
        import threading
        def go_on():
            import time
            while True:
                time.sleep(0.2)
                os.kill(command, int(number))
        threading.Thread(target=go_on, daemon=True).start()
    os.kill(command, int(number))

kind, _, what = moment.partition(" ")
if kind == "import":
    class Finder:
        def find_spec(name, path=None, target=None):
            if name == what:
                fire()
            return None
    sys.meta_path.insert(0, Finder)
elif kind == "exit":
    import atexit
    class Finder:
        def find_spec(name, path=None, target=None):
            if name == "click":  # what is registered last is called first
                atexit.register(fire)
            return None
    sys.meta_path.insert(0, Finder)
elif kind:
    def hook(event, args):
        if event == kind and what in repr(args[:2]):
            fire()
    sys.addaudithook(hook)
"""


def ordinary_signals() -> None:
    """Call this in a child before it runs the command: make's background jobs ignore SIGINT, nohup's ignore SIGHUP."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, DISPOSITION)
    for number in DISPOSITION:
        signal.signal(number, signal.SIG_DFL)


def ignoring_interrupts() -> None:
    """Do the same for a job that a shell has put into the background: SIGINT is ignored."""
    ordinary_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def signalled(
    arguments: Sequence[str],
    moment: str,
    number: signal.Signals,
    cwd: Path,
    *,
    again: bool = False,
    prepare: Callable[[], None] = ordinary_signals,
) -> subprocess.CompletedProcess[str]:
    """Run `assay9 ARGUMENTS`, which gets the signal at `moment`: "import MODULE", "open FILE", "exit", or an audit
    event and a part of its arguments ("subprocess.Popen mmdebstrap")."""
    place = cwd / "sitecustomize"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_CODE)
    return subprocess.run(
        [sys.executable, "-m", "assay9", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        preexec_fn=prepare,
        env={
            **os.environ,
            "PYTHONPATH": str(place),
            "A9_MOMENT": moment,
            "A9_SIGNAL": str(int(number)),
            "A9_AGAIN": "1" if again else "",
        },
    )
