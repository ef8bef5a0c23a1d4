"""A made-up run that looks like a real one: every verdict, hostile strings, any number of cases and calls.

`python tests/evidence/sample.py DIR [CASES [CALLS]]` writes it as a run directory with all its reports.
"""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conformance.comparison import Comparison, FieldComparison
from conformance.evidence.models import (
    Call,
    CaseResult,
    Demand,
    Environment,
    Exported,
    KnownFailure,
    LogExcerpt,
    Program,
    Record,
    Scope,
    Selected,
)
from conformance.evidence.overview import tally
from conformance.evidence.record import RunWriter
from conformance.vocabulary import Verdict

STARTED = datetime(2026, 11, 20, 9, 30, 15, tzinfo=UTC)
HOSTILE = "a<b>&\"'</script><img src=x onerror=alert(1)>\u2028{{ 7*7 }} \x1b[31mred"
FAMILIES = {
    "open": ("openat(2) with {} opens the file and leaves its size alone.", "POSIX open; 9P2000.L Tlopen"),
    "mode": ("chmod(2) sets {} and leaves type, owner, size and mtime alone.", "POSIX chmod; 9P2000.L Tsetattr"),
    "times": ("utimensat(2) with {} keeps nanoseconds on both sides.", "POSIX utimensat; 9P2000.L Tsetattr"),
    "xattr": ("An extended attribute set with {} has the same bytes outside.", "xattr(7); 9P2000.L Txattrcreate"),
    "rename": ("renameat2(2) with {} replaces the name in one step.", "rename(2); 9P2000.L Trenameat"),
    "readdir": ("A directory of {} entries is listed whole, each name once.", "POSIX readdir; 9P2000.L Treaddir"),
    "lock": ("A lock taken with {} is refused to the second process.", "fcntl(2); 9P2000.L Tlock"),
    "statfs": ("statvfs(3) agrees with the host for {}.", "POSIX statvfs; 9P2000.L Tstatfs"),
    "unlink": ("An unlinked file stays usable through {}.", "POSIX unlink; 9P2000.L Tunlinkat"),
}
WORDS = ["O_EXCL", "0o4755", "UTIME_OMIT", "XATTR_REPLACE", "RENAME_NOREPLACE", "1000", "F_OFD_SETLK", "an empty name"]
OPS = {
    "create": ("Tlcreate", "3"),
    "chmod": ("Tsetattr", "None"),
    "write": ("Twrite", "4096"),
    "open": ("Tlopen", "4"),
    "utimensat": ("Tsetattr", "None"),
    "setxattr": ("Txattrcreate", "None"),
    "rename": ("Trenameat", "None"),
    "fsync": ("Tfsync", "None"),
    "read": ("Tread", "b'\\x00\\x01...' (4096 bytes)"),
    "close": ("Tclunk", "None"),
}
STAT = {
    "mode": ("exact", 33206),
    "nlink": ("exact", 1),
    "uid": ("exact", 1000),
    "gid": ("exact", 0),
    "size": ("exact", 4096),
    "blocks": ("exact", 8),
    "rdev": ("exact", 0),
    "atime_ns": ("exact", 0),
    "mtime_ns": ("exact", 0),
    "ctime_ns": ("exact", 0),
    "ino": ("identity", 5),
    "dev": ("informational", 36),
    "blksize": ("informational", 131072),
    "btime_ns": ("informational", 0),
}
TOLERATED = {
    "ino": "the guest derives it from qid.path, which a server may remap (QEMU multidevs)",
    "dev": "the guest gives every mount an anonymous device number of its own",
    "blksize": "v9fs reports a transfer size made from msize or iounit, not the host's",
    "btime_ns": "v9fs asks for P9_STATS_BASIC only: birth time never crosses",
}
REASONS: dict[Verdict, list[str]] = {
    "pass": [""],
    "fail": [
        "inside and outside differ: after call 2 (chmod): fred: st_size: inside 0, outside 4096",
        "inside: open('fred', 'O_RDWR') failed with EIO, expected ENOENT",
    ],
    "known": [
        "QEMU 7.2 gives 0 for f_files when the host's file system is larger than 2^32 inodes "
        "(f_files: inside 0, outside 4294967296)"
    ],
    "fixed": ["declared as a known failure and passes: remove the entry (readdir skips names of 255 bytes)"],
    "unsupported": ["xattr: this implementation has no Txattrwalk (EOPNOTSUPP seen)"],
    "undrivable": [
        "host root",
        "Tlock did not cross: the guest answered by itself",
        "does not apply to cache=none, only to mmap, loose",
    ],
    "error": ["the guest did not answer within 30 s — look at console.log, then run it again"],
}
WEIGHTS: dict[Verdict, int] = {
    "pass": 440,
    "fail": 2,
    "known": 5,
    "fixed": 1,
    "unsupported": 12,
    "undrivable": 24,
    "error": 1,
}


def environment(target: str = "qemu") -> Environment:
    """An environment that uses every field."""
    return Environment(
        target=target,
        target_kind="qemu",
        target_title="QEMU's own virtio-9p device",
        programs={
            "device": Program(
                path="/usr/bin/qemu-system-x86_64",
                sha256="1493008b" * 8,
                version="QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022",
                package="qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3",
            )
        },
        build_id="gate 7",
        base="v7.2.22",
        exported=Exported(
            path="/tank/share",
            mount_point="/tank",
            type="zfs",
            source="tank",
            options="rw",
            properties={"setuid": "off"},
        ),
        profiles={"conformance/targets/qemu.toml": "0a3f46aa" * 8},
        declared=94,
        scope=Scope(layers=["vfs", "property"], layers_not_run={"wire": 398, "ring": 82}, mounts_in_matrix=25),
        job_url="https://ci.example.org/job/7",
        host_cpu_model="AMD EPYC",
        target_version="QEMU 7.2.22 (Debian 1:7.2+dfsg-7+deb12u16)",
        argv=[
            "/usr/bin/qemu-system-x86_64",
            "-machine",
            "pc,accel=tcg",
            "-m",
            "512",
            "-nographic",
            "-fsdev",
            "local,id=share0,path=/tmp/run/export/share0,security_model=passthrough,multidevs=remap",
            "-device",
            "virtio-9p-pci,fsdev=share0,mount_tag=share0",
        ],
        security_model="passthrough",
        guest_image="debian12",
        guest_image_hash="9b1c0e7a55d2",
        guest_kernel="6.1.0-41-amd64",
        accelerator="tcg",
        accelerator_reason="/dev/kvm is there, but a probe kernel did not boot on it within 10 s",
        access="SSH to root@127.0.0.1:40022",
        host_kernel="Linux 6.1.0-41-amd64 x86_64",
        host_distribution="Debian GNU/Linux 12 (bookworm)",
        host_cpus=2,
        host_python="3.11.2",
        host_user="root",
        assay9_version="0.1.0",
        assay9_commit="1f8113ea446d75d83a00e63e",
        command="assay9 run qemu --jobs 2",
        seed=20261120,
        started=STARTED,
    )


def results(cases: int = 60, calls: int = 8, seed: int = 1, mounts: bool = True) -> list[CaseResult]:
    """This number of results; every verdict is among them if there are at least ten."""
    rng = random.Random(seed)
    order: list[Verdict] = ["pass", "fail", "known", "fixed", "unsupported", "undrivable", "error", "pass"]
    found = []
    for number in range(cases):
        verdict = order[number] if cases >= 10 and number < len(order) else _verdict(rng)
        family = list(FAMILIES)[number % len(FAMILIES)]
        found.append(_result(rng, number, family, verdict, calls, mounts))
    if cases >= 10:
        found[8] = found[8].model_copy(
            update={"verdict": "fail", "severity": "varies", "reason": "seek past the end gives 0, elsewhere EOF"}
        )
        found[9] = found[9].model_copy(
            update={
                "requirement": HOSTILE,
                "reason": HOSTILE,
                "verdict": "fail",
                "severity": "must",
                "details": HOSTILE,
            }
        )
        if cases > 20:
            found[20] = found[20].model_copy(
                update={"verdict": "unstable", "reason": "1 of 2 held", "tries": ["pass", "fail: EIO"]}
            )
        found[7] = found[7].model_copy(update={"verdict": "pass", "reason": "", "decided_by": "guest"})
    return found


def record(cases: int = 60, calls: int = 8, seed: int = 1, mounts: bool = True) -> Record:
    """The whole run, in memory."""
    found = results(cases, calls, seed, mounts)
    made = environment().model_copy(
        update={
            "ended": STARTED + timedelta(seconds=271),
            "mounts": {r.mount: r.mount_shown for r in found},
        }
    )
    return Record(environment=made, counts=tally(found), selected=len(found), results=found)


def write(results_dir: Path, cases: int = 60, calls: int = 8, workers: int = 2) -> Path:
    """Write the whole run, as its workers would have left it."""
    writer = RunWriter.create(results_dir, environment())
    attached = [RunWriter.attach(writer.run_dir, f"gw{n}") for n in range(workers)]
    made = results(cases, calls)
    for one in attached:
        one.select(selected(made))
    for result in made:
        attached[hash(result.worker) % workers].append(result)
    for one in attached:
        one.close()
    writer.finish()
    return writer.run_dir


def selected(made: list[CaseResult]) -> list[Selected]:
    """The record that a worker makes of these cases before the first one runs."""
    fields = Demand.model_fields
    return [Selected(node_id=f"x::{r.id}[{r.mount}]", **{f: getattr(r, f) for f in fields}) for r in made]


def _verdict(rng: random.Random) -> Verdict:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def _result(rng: random.Random, number: int, family: str, verdict: Verdict, calls: int, mounts: bool) -> CaseResult:
    requirement, source = FAMILIES[family]
    word = rng.choice(WORDS)
    parameters = word if number % 3 == 0 else ""
    case_id = f"{family.upper()}-{number // len(FAMILIES) + 1:03d}"
    mount = "cache=mmap" if mounts and number % 7 == 3 else "cache=none"
    driven = verdict not in ("undrivable", "error")
    made = [_call(rng, i) for i in range(1, calls + 1)] if driven else []
    bad = verdict in ("fail", "known")
    seen = [c for i in range(1, len(made) + 1, 2) for c in _compared(rng, i, bad and i == 1)]
    messages = [OPS[c.op][0] + (f" -> {c.errno}" if c.errno else "") for c in made if c.vantage == "inside"]
    known = (
        KnownFailure(
            reason="f_files is cut to 32 bits in v9fs_statfs", link="https://gitlab.com/qemu-project/qemu/-/issues/1"
        )
        if verdict == "known"
        else None
    )
    return CaseResult(
        id=f"{case_id}[{parameters}]" if parameters else case_id,
        case_id=case_id,
        parameters=parameters,
        layer="property" if family == "statfs" else "vfs",
        family=family,
        title=f"test_{family}_{number}_keeps_its_promise",
        requirement=requirement.format(word),
        source=source,
        severity=rng.choice(("must", "must", "linux")),
        mount=mount,
        mount_shown=f"share0 /mnt/share0 9p rw,sync,dirsync,access=client,msize=131072,trans=virtio,{mount} 0 0",
        verdict=verdict,
        reason=rng.choice(REASONS[verdict]),
        infrastructure=verdict == "error",
        details='Traceback (most recent call last):\n  File "cases/vfs/test_open.py", line 12\nFinding: ...'
        if bad
        else "",
        known=known,
        seconds=round(sum(c.seconds for c in made) * 1.3, 4),
        ended=STARTED + timedelta(seconds=number / 4),
        worker=f"gw{number % 2}",
        guest_seconds=round(sum(c.seconds for c in made), 4),
        calls=made,
        comparisons=seen,
        covers=["Tlopen"],
        messages=messages,
        message_counts={m.split()[0]: 1 for m in messages},
        covers_ok=True,
        log_excerpts=[LogExcerpt("console: 9p", "9pnet: -- p9_read_work: recv error -5\n[  12.3] <1>")] if bad else [],
    )


def _call(rng: random.Random, index: int) -> Call:
    op = rng.choice(list(OPS))
    errno = "ENOENT" if rng.random() < 0.1 else None
    result = errno or OPS[op][1]
    return Call(
        index=index,
        vantage="outside" if rng.random() < 0.15 else "inside",
        process=rng.choice(("main", "main", "fred")),
        op=op,
        args=["'fred'", rng.choice(("0o640", "b'...'", "flags=577"))],
        result=result,
        errno=errno,
        seconds=round(rng.random() / 100, 6),
        control_result="EACCES" if rng.random() < 0.02 else result,
    )


def _compared(rng: random.Random, after: int, differs: bool) -> list[Comparison[str]]:
    now = time.mktime((2026, 11, 20, 9, 30, 15, 0, 0, 0)) + after
    found = []
    for path in ("fred", "."):
        fields = []
        for name, (rule, value) in STAT.items():
            inside = str(int(now * 1e9) + rng.randrange(10**9)) if name.endswith("_ns") else str(value)
            outside, tolerated = inside, None
            if name in TOLERATED:
                outside, tolerated = (str(value + 917_504) if name != "btime_ns" else inside), TOLERATED[name]
                inside = "0" if name == "btime_ns" else inside
            if differs and name == "size":
                outside, tolerated = "8192", None
            equal = inside == outside or (rule == "identity")
            fields.append(FieldComparison(f"st_{name}", inside, outside, rule, equal, tolerated))  # type: ignore[arg-type]
        found.append(Comparison(after, "stat", path, fields, not (differs and path == "fred") and not differs))
    return found


if __name__ == "__main__":
    from conformance.reports.write import write_reports

    made = write(Path(sys.argv[1]), *(int(a) for a in sys.argv[2:]))
    write_reports(made)
    print(made)
