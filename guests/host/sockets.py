"""Unix sockets of other processes."""

from __future__ import annotations

from pathlib import Path

_LISTENING = 0x10000
"""The flag of a listening socket, __SO_ACCEPTCON. Source: proc_net(5), and unix_seq_show of Linux's af_unix.c."""


def listens(path: Path, pid: int | str = "self") -> bool:
    """Whether somebody listens on ``path``, checked without connecting: a vhost-user back end may serve one front end.

    The path alone proves nothing: bind(2) makes it, and until listen(2) a connection is refused. ``pid``: a process in
    whose network namespace to look. A socket that was bound under another name counts as soon as its path exists.
    """
    if not path.exists():
        return False
    try:
        table = Path(f"/proc/{pid}/net/unix").read_text(errors="surrogateescape")
    except OSError:
        return True
    entries = [line.split(maxsplit=7) for line in table.splitlines()[1:]]
    flags = [int(fields[3], 16) for fields in entries if len(fields) == 8 and fields[7] == str(path)]
    return not flags or any(flag & _LISTENING for flag in flags)
