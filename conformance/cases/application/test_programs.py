"""Whole programs: the same script on the share and on the guest's own file system, its output and its tree compared."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.case import case
from conformance.cases.application import calls
from conformance.catalogue.applications import TRACER, Application, applications
from conformance.checks import equal, report
from conformance.errors import Finding, SuiteError, Undrivable
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from protocol.messages import Tgetattr, Tlcreate, Tlopen, Twalk, Txattrcreate, Txattrwalk

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
SLOWER = 50
"""Times that a program may take longer on the share than on the guest's own file system, where that is more than its
own limit: a busy machine slows both."""
ENDED = 124
"""What timeout(1) ends with when the program has not ended."""
END_LEFT = """
ls -l /proc/[0-9]*/cwd 2> /dev/null | while read -r line; do
  case "$line" in *" -> $0" | *" -> $0/"*) one="${line#*/proc/}"; kill -9 "${one%%/*}" ;; esac
done
"""
"""Ends every process that works below a directory: a program that failed may leave its server."""
SHOWN = 8
"""Calls that a finding shows."""
TRACED = 32 << 20
"""Bytes of the share's trace that are read."""
EXPECTED = 48 << 20
"""Bytes of the other traces: more, so that a call of the share is not missing there because it comes a little later."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a script."""

    status: int
    output: list[str]
    error: str
    tree: Mapping[str, Mapping[str, Any]]
    seconds: float


LIMIT = 86400
"""Seconds for a case: each run of a program has a limit of its own."""


def that_need(feature: str) -> set[str]:
    """The applications that declare to need it."""
    return {name for name, one in applications().items() if feature in one.needs}


@pytest.mark.parametrize("name", sorted(applications().keys() - that_need("acl") - that_need("xattr")))
@case("PROGRAM-001", covers=[Twalk, Tgetattr, Tlopen, Tlcreate], cached_too=True, seconds=LIMIT)
def test_a_program_does_the_same(share: Share, name: str) -> None:
    """A program that works on the guest's own file system works on the share: its exit status and output are the same,
    and so are the names, types, modes, sizes, contents, links and attributes that it leaves, inside and outside.
    Source: POSIX; the program's own documentation."""
    compare(share, name)


@pytest.mark.parametrize("name", sorted(that_need("acl")))
@case("PROGRAM-002", covers=[Txattrcreate, Txattrwalk], needs=["acl"], mount="posixacl", cached_too=True, seconds=LIMIT)
def test_a_program_that_handles_acls_does_the_same(share: Share, name: str) -> None:
    """The same for a program that copies ACLs, which a share has when it is mounted with posixacl.
    Source: acl(5); the program's own documentation."""
    compare(share, name)


@pytest.mark.parametrize("name", sorted(that_need("xattr") - that_need("acl")))
@case("PROGRAM-003", covers=[Txattrcreate, Txattrwalk], needs=["xattr"], cached_too=True, seconds=LIMIT)
def test_a_program_that_copies_attributes_does_the_same(share: Share, name: str) -> None:
    """The same for a program that copies extended attributes.
    Source: xattr(7); the program's own documentation."""
    compare(share, name)


def compare(share: Share, name: str) -> None:
    """Run the program in both places, and report what differs."""
    application = applications()[name]
    if share.mount.cache not in application.caches:
        raise Undrivable(f"{name} cannot work with cache={share.mount.cache}")
    for feature in sorted({*application.needs} - {"acl", "xattr"}):  # those are of the cases
        share.need(feature, f"{name} needs it")
    environment = {
        **ENVIRONMENT,
        **{variable: place(share, variable, path) for variable, path in application.paths.items()},
    }
    require(share.inside, name, application, environment)
    reference = f"{share.control.root}-reference"
    share.inside.quietly.rmtree(reference)
    wanted = played(share.inside, application, environment, reference, application.seconds)
    if wanted.status == ENDED:
        raise SuiteError(
            f"{name} did not end on the guest's own file system: give it more than {application.seconds:.0f} s"
        )
    if wanted.status:
        raise SuiteError(f"{name} ends with {wanted.status} on the guest's own file system: {wanted.error}")
    limit = max(application.seconds, SLOWER * wanted.seconds)
    seen = played(share.inside, application, environment, "work", limit)
    share.inside.quietly.rmtree(reference)
    if differences(name, seen, wanted, limit):
        blame(share, name, application, environment, limit if seen.status != ENDED else 60 + 10 * wanted.seconds)
    if not share.on_control and not share.alone:
        outside = share.outside.quietly.survey("work")
        for path in sorted(seen.tree):
            compared(f"{path!r} outside after {name}", outside.get(path, {}), seen.tree[path])


def require(process: Vantage, name: str, application: Application, environment: Mapping[str, str]) -> None:
    """Undrivable unless the guest has what the application needs: programs of the path, or files by pattern."""
    wanted = [_filled(one, environment) for one in application.programs]
    look = 'for one; do command -v "$one" > /dev/null || ls -d $one > /dev/null 2>&1 || echo "$one"; done'
    said = process.quietly.run(["sh", "-c", look, "sh", *wanted], 60, b"", None, dict(environment))["stdout"].decode()
    if missing := said.split():
        where = "".join(f"; {key}: set ASSAY9_{key} to its place" for key in application.paths)
        raise Undrivable(f"the guest has no {missing[0]}: {name} needs it{where}")


def place(share: Share, variable: str, default: str) -> str:
    """Where the guest has what a variable of the declaration names. What only this host has is copied into the guest,
    beside the control file system's files."""
    path = os.environ.get(f"ASSAY9_{variable}", default)
    there = share.inside.quietly.run(["sh", "-c", 'test -e "$0"', path])["status"] == 0
    if there or not Path(path).exists():
        return path
    copied = f"{os.path.dirname(share.control.root)}/brought-{variable}"
    if share.inside.quietly.run(["sh", "-c", 'test -e "$0"', copied])["status"] != 0:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            archive.add(path, os.path.basename(copied))
        unpack = ["tar", "-xzf", "-", "-C", os.path.dirname(copied)]
        done = share.inside.quietly.run(unpack, 1200, packed.getvalue())
        if done["status"] != 0:
            raise Undrivable(
                f"{path} cannot be copied into the guest: {done['stderr'].decode(errors='replace').strip()[-200:]}"
            )
    return copied


def played(
    process: Vantage,
    application: Application,
    environment: Mapping[str, str],
    directory: str,
    seconds: float,
    before: tuple[str, ...] = (),
) -> Outcome:
    """Run the script in a new directory, on the share or elsewhere, and return its result."""
    process.mkdir(directory, 0o755)
    process.timeout = seconds + 60
    argv = ["timeout", "-k", "10", f"{seconds:.0f}", *before, "sh", "-eu", "-c", application.script]
    begun = time.monotonic()
    done = process.run(argv, seconds + 30, b"", directory, dict(environment))
    took = time.monotonic() - begun
    process.quietly.run(["sh", "-c", END_LEFT, absolute(process, directory)], seconds + 30)
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
    error = done["stderr"].decode(errors="replace").strip()[-500:]
    return Outcome(done["status"], said.splitlines(), error, tree, took)


def absolute(process: Vantage, directory: str) -> str:
    """A name as the guest's other processes have it."""
    return os.path.join(process.root, directory)


def differences(name: str, seen: Outcome, wanted: Outcome, limit: float) -> bool:
    """Report each difference. Returns whether there is one."""
    if seen.status == ENDED != wanted.status:
        text = f"{name} did not end within {limit:.0f} s; on the guest's own file system it took {wanted.seconds:.1f} s"
        report(Finding(text, "slow", {"what": name, "limit": f"{limit:.0f} s"}))
        return True
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


def blame(share: Share, name: str, application: Application, environment: Mapping[str, str], limit: float) -> None:
    """Run it again under strace, twice on the guest's own file system and once on the share, and report which calls
    differed."""
    if share.on_control:
        return
    if share.inside.which(TRACER) is None:
        text = f"which call of {name} differed is unknown: the guest has no {TRACER}"
        report(Finding(text, "value", {"what": name, "seen": "no trace"}))
        return
    own = f"{share.control.root}-reference"
    controls = [traced(share, application, environment, own, limit, EXPECTED) for _ in range(2)]
    seen = traced(share, application, environment, f"{share.inside.root}/traced", limit, TRACED)
    found = list(calls.differences(seen, controls))
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        text = f"calls of {name} that differ on the share: {'; '.join(found[:SHOWN])}{more}"
    else:
        text = (
            f"no call of {name} differs when it runs again under {TRACER}: the fault comes and goes, or the pages of a "
            "map differ; the messages of this case are in its evidence"
        )
    report(Finding(text, "value", {"what": name, "seen": "; ".join(found[:SHOWN]) or "no call"}))


def traced(
    share: Share, application: Application, environment: Mapping[str, str], directory: str, limit: float, room: int
) -> calls.Calls:
    """The calls of one more run, in that directory, from the first `room` bytes of its trace."""
    trace = f"{share.control.root}-strace"
    options = (TRACER, *calls.OPTIONS, "-o", trace)
    played(share.inside, application, environment, directory, limit, options)
    text = share.inside.quietly.slurp(trace, room).decode(errors="replace")
    share.inside.quietly.unlink(trace)
    share.inside.quietly.rmtree(directory)
    return calls.read(text, directory)


def _filled(word: str, environment: Mapping[str, str]) -> str:
    """A word of a declaration with its variables ($LTP) filled in."""
    return re.sub(r"\$(\w+)", lambda found: environment.get(found[1], found[0]), word)
