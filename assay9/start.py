"""Where the program starts: signal handlers come first, and a signal decides the exit status.

Nothing slow is imported above `main`: a signal while click, pytest or pydantic are being imported must end the program
with its status and without a traceback. (`import re` of the installed script is all that comes before.)
"""

from __future__ import annotations

import io
import os
import resource
import sys
from typing import NoReturn

from guests.host import signals

DESCRIPTORS = 256
"""Open files that every command may need."""


def main() -> NoReturn:
    """Entry point of the command `assay9`."""
    signals.install()
    _streams()
    status = _surroundings() or _status()
    signals.idle()
    sys.exit(signals.exit_status() or status)


def _streams() -> None:
    """Replace a standard stream that was closed (`>&-`): otherwise the next opened file would take its place.

    A character that the locale's encoding does not have is escaped: it must neither raise nor, in pytest's writer, have
    all newlines beside it escaped, too.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the process's life
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        elif mode == "w" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _surroundings() -> int:
    """3 where no command can work here: no working directory, too few descriptors. 0 otherwise."""
    try:
        os.getcwd()
    except OSError as error:
        sys.stderr.write(f"assay9: the working directory is gone ({error.strerror}); cd to one that exists\n")
        return 3
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < DESCRIPTORS:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
        except (OSError, ValueError):
            sys.stderr.write(f"assay9: {hard} open files are allowed here, {DESCRIPTORS} are needed; raise ulimit -n\n")
            return 3
    return 0


def _status() -> int:
    try:
        from assay9 import cli  # noqa: PLC0415 - 50 ms, see above

        signals.working()
        return cli.main()
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        # The signal broke this: a pipe that closed, a child that the same Ctrl-C ended.
        if signals.received() is not None:
            return 0
        if isinstance(error, Exception):  # most likely an incomplete installation
            sys.stderr.write(f"assay9: cannot start: {type(error).__name__}: {error}; run ./setup.sh again\n")
            return 3
        raise
