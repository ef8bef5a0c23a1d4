"""A record without private data: names of the host and its user, home and checkout, mount tables, heap bytes.

Rule of this module: removed text is replaced by a word in angle brackets, so a reader sees that something was there.
Verdicts, requirements, findings' codes and numbers stay.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from conformance.errors import SuiteError
from conformance.evidence.host import CHECKOUT
from conformance.evidence.models import Call, Record

_CUT = r"(?=\.{2,3} \(\d+ characters\))"
_BYTES = re.compile(rf"""b(?:'(?:[^'\\]|\\.){{24,}}?(?:'|{_CUT})|"(?:[^"\\]|\\.){{24,}}?(?:"|{_CUT}))""")
"""A bytes literal of some length, also one of which evidence holds only the beginning."""
_RAW = re.compile(r"\\x[0-9a-f]{2}")
_MOUNTS = re.compile(r"/proc/(?:self|\d+)/(?:mountinfo|mounts|maps)")
_TABLE = re.compile(r"/etc/(?:fstab|mtab|mnttab)$")
"""A file that has a mount table, as the only argument or the first."""
_ROOT = re.compile(r"(?<![\w.@+-])/root(?![\w.@+-])")
_UNAME = re.compile(r"^(\['\w+', ')[^']*")
"""What uname(2) returned, as far as the machine's name."""
_ROOM = "[^\\s'\"=,:;()<>]{1,200}?"
_PLACES = (
    (
        re.compile(rf"/{_ROOM}(?=/(?:assay9|conformance|guests|protocol|reference_server|soak)/[\w/]+\.py\b)"),
        "<checkout>",
    ),
    (re.compile(rf"/{_ROOM}(?=/\d{{8}}T\d{{6}}Z-\w)"), "<results>"),
    (re.compile(r"/(?:home|Users|export/home)/[\w.@+-]+"), "<home>"),
)
"""Directories of whatever machine the run was on: a record is also published from another one, or another checkout."""
_LOGIN = re.compile(r"\bSSH to (?:[\w.+-]+@)?+(?!127\.0\.0\.1\b|localhost\b)[\w.-]+")
_PLAIN = frozenset({"root", "user", "test", "build", "runner", "guest", "localhost", "debian"})
"""Names that many hosts and users have, and that are words of a record, too."""


def private_words(run_dir: Path, record: Record, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Private text, the longest first -> its replacement.

    For this host and user, and for those that made the record.
    """
    found = {str(run_dir.absolute()): "<run>", str(CHECKOUT): "<checkout>", str(Path.home()): "<home>"}
    found |= {str(run_dir.absolute().parent): "<results>", str(Path.cwd()): "<directory>"}
    names = {socket.gethostname(): "<host>", socket.getfqdn(): "<host>", environ.get("USER", ""): "<user>"}
    names[record.environment.host_user] = "<user>"
    with contextlib.suppress(OSError, KeyError):
        names[getpass.getuser()] = "<user>"
    if (results := _results_of(record.environment.command)).startswith("/"):
        found[results] = "<results>"
    found |= {name: word for name, word in names.items() if len(name) > 2 and name.lower() not in _PLAIN}
    return dict(sorted(((k, v) for k, v in found.items() if len(k) > 2), key=lambda item: -len(item[0])))


def _results_of(command: str) -> str:
    """The value of --results in a command; empty if it has none."""
    try:
        words = shlex.split(command)
    except ValueError:  # a record before schema version 3, whose command is not quoted
        words = command.split()
    after = (value for word, value in pairwise(words) if word == "--results")
    return next(after, next((word.partition("=")[2] for word in words if word.startswith("--results=")), ""))


def redacted(record: Record, words: Mapping[str, str]) -> Record:
    """The record without private text, mount tables and long runs of raw bytes."""
    results = [
        result.model_copy(update={"calls": [], "log_excerpts": []})
        if any(_MOUNTS.search(" ".join(call.args)) for call in result.calls)
        else result.model_copy(update={"calls": [_redacted_call(call) for call in result.calls]})
        for result in record.results
    ]
    exported = record.environment.exported
    update: dict[str, Any] = {"access": _LOGIN.sub("SSH to <user>@<host>", record.environment.access)}
    if exported is not None:
        update["exported"] = exported.model_copy(update={"mount_point": "<mount point>", "source": "<device>"})
    whole = record.model_copy(update={"results": results, "environment": record.environment.model_copy(update=update)})
    try:
        return Record.model_validate(_redacted(whole.model_dump(mode="json"), words))
    except ValueError as e:
        raise SuiteError(f"a redacted record is no longer a record: {str(e).splitlines()[0]}") from None


def _redacted_call(call: Call) -> Call:
    """The call without the mount table or the machine's name that it returned or wrote."""
    if call.op == "uname":
        return replace(call, result=_UNAME.sub(r"\1<host>", call.result), control_result=None)
    if call.op == "mounts" or (call.args and _TABLE.search(call.args[0])):
        written = [*call.args[:1], *["<mount table>"] * len(call.args[1:])]
        return replace(call, args=written, result="<mount table>", control_result=None)
    return call


def _redacted(value: Any, words: Mapping[str, str]) -> Any:
    """JSON without private text in any string: a match in serialised text could cross strings."""
    if isinstance(value, str):
        return redacted_text(value, words)
    if isinstance(value, list):
        return [_redacted(one, words) for one in value]
    if isinstance(value, dict):
        return {redacted_text(name, words): _redacted(one, words) for name, one in value.items()}
    return value


def redacted_text(text: str, words: Mapping[str, str]) -> str:
    """The text without private words, directories of a particular machine, and raw bytes."""
    for word, instead in words.items():
        if word == "/root":  # no more private than the name; files of a guest are called so, too
            text = _ROOT.sub(instead, text)
        elif word.startswith("/"):
            text = text.replace(word, instead)
        elif word in text:
            text = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])", instead, text)
    if "/" in text:
        for place, instead in _PLACES:
            text = place.sub(instead, text)
    return _BYTES.sub(_shorter, text)


def _shorter(found: re.Match[str]) -> str:
    """Raw bytes are replaced by their number; text written by people stays."""
    return f"b'<{len(found[0])} characters of bytes>'" if len(_RAW.findall(found[0])) > 4 else found[0]
