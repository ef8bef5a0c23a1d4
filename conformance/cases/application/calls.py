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
    (re.compile(r"0x[0-9a-f]+"), "N"),
    (re.compile(r"(?<=,)\s*(?=\S)"), " "),  # where a call was interrupted
    (re.compile(r"\s+\)"), ")"),
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
_LINE = re.compile(r"(\d+)\s+(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (.*)")
_PATH = re.compile(r'<([^<>]*)>|"((?:[^"\\]|\\.)*)"')
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
    by_key: dict[str, dict[str, None]] = field(default_factory=dict)
    """The call and the names in it -> those of `lines` that have them."""
    key_of: dict[str, str] = field(default_factory=dict)


def read(trace: str, place: str) -> Calls:
    """The calls of a trace on files below `place`, with that replaced by a dot."""
    found = Calls()
    processes = set(re.findall(r"^\d+", trace, re.MULTILINE))
    for text in _joined(trace):
        seen = _CALL.fullmatch(text)
        if seen is None:
            continue
        name, arguments, result = seen.groups()
        if not _touches(name, arguments, place):
            continue
        line = f"{name}({arguments}) = {result}".replace(place, ".")
        for pattern, by in REMOVED:
            line = pattern.sub(by, line)
        line = _NUMBER.sub(lambda number: "PID" if number[0] in processes else number[0], line)
        paths = _PATH.findall(line.rpartition(" = ")[0])
        names = [shown or (text if _BY_NAME.search(name) else "") for shown, text in paths]
        key = " ".join([name, *filter(None, names)])
        found.lines[line] = None
        found.by_key.setdefault(key, {})[line] = None
        found.key_of[line] = key
    return found


def differences(share: Calls, controls: Sequence[Calls]) -> Iterator[str]:
    """The calls on the share that no run on the guest's own file system made with that result; failed ones first.

    A call that is no failure counts only if all the other runs made it, with results that did not differ.
    """
    first, *others = controls
    steady = {
        key
        for key, lines in first.by_key.items()
        if all(other.by_key.get(key, {}).keys() == lines.keys() for other in others)
    }
    later = []
    for line in share.lines:
        if any(line in one.lines for one in controls):
            continue
        key = share.key_of[line]
        expected = next(iter(first.by_key.get(key, {})), "")
        against = f", on the guest's own file system {_short(expected)}" if expected else ""
        if " = -1 E" in line:
            yield f"{_short(line)}{against}"
        elif key in steady:
            later.append(f"{_short(line)}{against}")
    yield from later


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
