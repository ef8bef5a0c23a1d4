"""Where the program starts: signal handlers come first, and a signal decides the exit status.

Nothing slow is imported above `main`: a signal while click, pytest or pydantic are being imported must end the program
with its status and without a traceback. (`import re` of the installed script is all that comes before.)
"""

from __future__ import annotations

import sys
from typing import NoReturn

from guests.host import signals


def main() -> NoReturn:
    """Entry point of the command `assay9`."""
    signals.install()
    status = _status()
    signals.idle()
    sys.exit(signals.exit_status() or status)


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
