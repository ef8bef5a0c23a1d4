"""Compares the system calls of two or three runs of a script, as strace(1) writes them: which call differed.

Two runs on one file system differ, too: in inode numbers, process ids, addresses, times of now, and where processes of
the script race. What no two runs share is removed from each line, and calls that differ between two runs on the guest's
own file system are not compared at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

OPTIONS = ("-f", "-qq", "-y", "-s", "64", "-e", "signal=none", "-e", "trace=%file,%desc", "-e", "abbrev=!%%stat")
"""Of strace: calls on files and descriptors, of all processes, with the path behind each descriptor; what stat(2) and
its relatives return in full."""
REMOVED = (
    (re.compile(r"(?<=,)\s*(?=\S)"), " "),  # where a call was interrupted
    (re.compile(r"\s+\)"), ")"),
    (re.compile(r"\)\s+= "), ") = "),
    (re.compile(r"st_dev=makedev\([^)]*\)"), "st_dev=N"),
    (re.compile(r"0x[0-9a-f]+"), "N"),
    (re.compile(r"\b\d+(?=<)"), "FD"),
    (
        re.compile(
            r"(stx?_(?:ino|dev|mnt_id|blksize|blocks|mask|attributes|attributes_mask)(?:_major|_minor)?)=[^,}]+"
        ),
        r"\1=N",
    ),
    # times of now; a time that a script has set is far from them
    (re.compile(r"=(?:1[5-9]|20)\d{8}(?: /\* [^*]* \*/)?(, [a-z_]*nsec=)\d+"), r"=NOW\1N"),
    (re.compile(r"tv_sec=(?:1[5-9]|20)\d{8}(?: /\* [^*]* \*/)?(, tv_nsec=)\d+"), r"tv_sec=NOW\1N"),
    (re.compile(r"(st[x]?_mode=S_IFDIR[^}]*?st[x]?_nlink=)\d+"), r"\1N"),
    (re.compile(r"(st[x]?_mode=S_IFDIR[^}]*?st[x]?_size=)\d+"), r"\1N"),
)
"""What differs between any two runs, and between file systems that are both right (the size of a directory)."""
NOT_COMPARED = re.compile(r"getcwd|getdents|fadvise|statfs|ioctl")
"""Calls whose results differ between file systems that are both right."""
REFUSED = re.compile(r'("system\.posix_acl_|^fallocate\().* = -1 EOPNOTSUPP')
"""What a share without posixacl answers, and Linux's 9P client to fallocate(2), which it does not have; programs expect
it."""
_LINE = re.compile(r"(\d+)\s+(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (.*)")
_PATH = re.compile(r'<([^<>]*)>|"((?:[^"\\]|\\.)*)"')
_STRING = r'"(?:[^"\\]|\\.)*"(?:\.\.\.)?'
_OUTPUTS = (
    (re.compile(r"^p?read(v|64|v2)?$"), re.compile(_STRING)),
    (re.compile("readlink"), re.compile(rf"(?<=, ){_STRING}(?=, \d+$)")),
    (re.compile("(get|list)xattr"), re.compile(rf"(?<=, ){_STRING}(?=, \d+$)")),
    (re.compile("stat"), re.compile(r"\{.*\}")),
)
"""Calls, and which part of their arguments is a result."""
_NUMBER = re.compile(r"(?<!\d)\d{2,}(?!\d)")
_BY_NAME = re.compile(
    r"access|chdir|chmod|chown|creat|execve|link|mkdir|mknod|open|readlink|rename|rmdir|stat|symlink|truncate|unlink|utime|xattr"
)
"""Calls that take names: of others, a string is data."""
_LONGEST = 300
"""Characters of a call that a finding shows."""


@dataclass(slots=True)
class Calls:
    """The calls of one run on files below its directory."""

    lines: dict[str, None] = field(default_factory=dict)
    """Each different call with its result, in the order in which they ended."""
    by_request: dict[str, dict[str, None]] = field(default_factory=dict)
    """A call without its result -> those of `lines` that are this call."""
    request_of: dict[str, str] = field(default_factory=dict)


def read(trace: str, place: str) -> Calls:
    """The calls of a trace on files below `place`, with that replaced by a dot."""
    found = Calls()
    processes = set(re.findall(r"^\d+", trace, re.MULTILINE))
    for text in _joined(trace):
        seen = _CALL.fullmatch(text)
        if seen is None:
            continue
        name, arguments, _ = seen.groups()
        if NOT_COMPARED.search(name) or REFUSED.search(text) or not _touches(name, arguments, place):
            continue
        line = text.replace(place, ".")
        for pattern, by in REMOVED:
            line = pattern.sub(by, line)
        line = _NUMBER.sub(lambda number: "PID" if number[0] in processes else number[0], line)
        request = _request(line)
        found.lines[line] = None
        found.by_request.setdefault(request, {})[line] = None
        found.request_of[line] = request
    return found


def differences(share: Calls, controls: Sequence[Calls]) -> Iterator[str]:
    """The calls that had another result on the share than in both runs on the guest's own file system, in order; then
    those that failed and were not made there.

    A call counts only if its results in the other runs did not differ, or if it fails on the share alone.
    """
    first, *others = controls
    steady = {
        request
        for request, lines in first.by_request.items()
        if all(other.by_request.get(request, {}).keys() == lines.keys() for other in others)
    }
    later = []
    for line in share.lines:
        if any(line in one.lines for one in controls):
            continue
        request, failed = share.request_of[line], " = -1 E" in line
        expected = next(iter(first.by_request.get(request, {})), "")
        if expected and (failed or request in steady):
            yield f"{_short(line)}, on the guest's own file system {_short(expected)}"
        elif failed and not any(request in one.by_request for one in controls):
            later.append(_short(line))
    yield from later


def _request(line: str) -> str:
    """A call without what it returned."""
    seen = _CALL.fullmatch(line)
    if seen is None:
        return line
    name, arguments, _ = seen.groups()
    for calls, output in _OUTPUTS:
        if calls.search(name):
            arguments = output.sub("", arguments)
    return f"{name}({arguments})"


def _joined(trace: str) -> Iterator[str]:
    """Each call on one line, without its process: one that another process interrupted is put together again."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        seen = _LINE.fullmatch(line)
        if seen is None:
            continue
        process, text = seen.groups()
        if text.endswith("<unfinished ...>"):
            begun[process] = text.removesuffix("<unfinished ...>").rstrip()
        elif (rest := _RESUMED.fullmatch(text)) is not None:
            yield begun.pop(process, "") + rest[1].lstrip()
        else:
            yield text


def _touches(name: str, arguments: str, place: str) -> bool:
    """Whether a call is about a file below `place`; a relative name is, since the script stays there."""
    return place in arguments or (
        _BY_NAME.search(name) is not None and arguments.startswith('"') and arguments[1] != "/"
    )


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 4]} ..."
