"""Whole programs: the same script on the share and on the guest's own file system, its output and its tree compared."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from conformance.case import case
from conformance.catalogue.applications import TRACER, Application, applications
from conformance.checks import equal, report
from conformance.errors import Finding, Undrivable
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tgetattr, Tlcreate, Tlopen, Twalk

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
SHOWN = 12
"""Calls that a finding shows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a script."""

    status: int
    output: list[str]
    error: str
    tree: Mapping[str, Mapping[str, Any]]


@pytest.mark.parametrize("name", sorted(applications()))
@case("PROGRAM-001", covers=[Twalk, Tgetattr, Tlopen, Tlcreate], cached_too=True, seconds=7200)
def test_a_program_does_the_same(share: Share, name: str) -> None:
    """A program that works on the guest's own file system works on the share: its exit status and output are the same,
    and so are the names, types, modes, sizes, contents, links and attributes that it leaves, inside and outside.
    Source: POSIX; the program's own documentation."""
    application = applications()[name]
    if share.mount.cache not in application.caches:
        raise Undrivable(f"{name} cannot work with cache={share.mount.cache}")
    for feature in application.needs:
        share.need(feature, f"{name} needs it")
    for program in application.programs:
        if share.inside.which(program) is None:
            raise Undrivable(f"the guest has no {program}: {name} needs it")
    reference = f"{share.control.root}-reference"
    share.inside.quietly.rmtree(reference)
    wanted = played(share.inside, application, reference)
    seen = played(share.inside, application, "work")
    share.inside.quietly.rmtree(reference)
    if differences(name, seen, wanted):
        blame(share, application, name)
    if not share.on_control and not share.alone:
        outside = share.outside.quietly.survey("work")
        for path in sorted(seen.tree):
            compared(f"{path!r} outside after {name}", outside.get(path, {}), seen.tree[path])


def played(process: Vantage, application: Application, directory: str, before: tuple[str, ...] = ()) -> Outcome:
    """Run the script in a new directory, on the share or elsewhere, and return its result."""
    process.mkdir(directory, 0o755)
    process.timeout = application.seconds + 60
    limit = ["timeout", "-k", "10", f"{application.seconds:.0f}"]
    argv = [*limit, *before, "sh", "-eu", "-c", application.script]
    done = process.run(argv, application.seconds + 30, b"", directory, ENVIRONMENT)
    said = done["stdout"].decode(errors="replace")
    for pattern in application.hide:
        said = re.sub(pattern, "", said)
    tree = {
        path: {
            field: value
            for field, value in seen.items()
            if field not in ("content", "size") or not any(fnmatch.fnmatch(path, one) for one in application.ignore)
        }
        for path, seen in process.quietly.survey(directory).items()
    }
    return Outcome(done["status"], said.splitlines(), done["stderr"].decode(errors="replace").strip()[-500:], tree)


def differences(name: str, seen: Outcome, wanted: Outcome) -> bool:
    """Report each difference. Returns whether there is one."""
    same = equal(f"exit status of {name} (it says: {seen.error})", seen.status, wanted.status)
    same &= equal(f"output of {name}", seen.output, wanted.output)
    same &= equal(f"names that {name} leaves", set(seen.tree), set(wanted.tree), code="names")
    for path in sorted(set(seen.tree) & set(wanted.tree)):
        same &= compared(f"{path!r} after {name}", seen.tree[path], wanted.tree[path])
    return not same


def compared(what: str, seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Report each field of a path that differs. Returns whether none does."""
    same = True
    for field, value in wanted.items():
        code = "content" if field in ("content", "target") else "xattr" if field == "xattrs" else "value"
        same &= equal(f"{field} of {what}", seen.get(field), value, code=code)
    return same


def blame(share: Share, application: Application, name: str) -> None:
    """Run it again under strace in both places, and report the calls that fail on the share alone."""
    if share.on_control or share.inside.which(TRACER) is None:
        return
    failed = []
    for directory in (f"{share.control.root}-reference", f"{share.inside.root}/traced"):
        trace = "/tmp/assay9-strace"
        played(share.inside, application, directory, (TRACER, "-f", "-qq", "-e", "signal=none", "-o", trace))
        failed.append(failures(share.inside.quietly.slurp(trace, 64 << 20).decode(errors="replace"), directory))
        share.inside.quietly.unlink(trace)
        share.inside.quietly.rmtree(directory)
    alone = [line for line in failed[1] if line not in failed[0]]
    if alone:
        shown = "; ".join(alone[:SHOWN])
        report(
            Finding(f"calls of {name} that fail on the share alone: {shown}", "value", {"what": name, "seen": shown})
        )


def failures(trace: str, place: str) -> list[str]:
    """The failed calls of a trace, without process ids, addresses and the place."""
    found: dict[str, None] = {}
    for line in trace.splitlines():
        if " = -1 E" in line:
            call = re.sub(r"0x[0-9a-f]+|\d{3,}", "N", line.partition(" ")[2].strip().replace(place, "."))
            found[call] = None
    return list(found)
