"""WHAT WAS TESTED, REPRODUCE and EVIDENCE: the run's environment as an approver reads it."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from conformance.evidence.manifest import NAME as MANIFEST
from conformance.evidence.models import CaseResult, Environment, Program
from conformance.evidence.overview import Overview, duration, elapsed
from conformance.reports.ticket.layout import Section, command, first_sentence, labelled, sentence, wrapped

_NOTE = 140
_DEVICE = re.compile(r"virtio-9p|vhost-user")
_SOURCE = re.compile(r"\bqemu-[\w-]+: (?:\S+:\d+: )?")
"""Program, file and line before what QEMU says."""
_PORT = re.compile(r":\d+(?=,|$)")


def tested(seen: Overview, *, notes: bool = True) -> Section:
    """The build, the change, the device, guest, host and suite; and other notes of the run."""
    e = seen.record.environment
    lines = labelled("target", sentence([f"{e.target}: {e.target_title}".removesuffix(": "), e.target_version]))
    for role, program in e.programs.items():
        lines += _program(role if len(e.programs) > 1 else "program", program)
    change = sentence([e.build_id, f"based on {e.base}" if e.base else ""])
    lines += labelled("change", change or "not named: --build-id and --base name it")
    lines += labelled("device", _device(e))
    lines += labelled("guest", _guest(e))
    lines += labelled("host", _host(e))
    lines += labelled("export", _export(e))
    lines += labelled("suite", _suite(seen))
    lines += labelled("when", _when(seen))
    least = len(lines) + 1  # notes are dropped first
    for note in e.notes if notes else ():
        lines += labelled("note", note[:_NOTE] + ("..." if len(note) > _NOTE else ""))
    if e.notes and not notes:
        lines += labelled("notes", f"{len(e.notes)}: report RUN --print --full has them")
    return Section("WHAT WAS TESTED", lines, least=least)


def _program(role: str, program: Program) -> Iterator[str]:
    yield from labelled(role, program.path + (f" ({program.package})" if program.package else ""))
    said = program.version.splitlines()
    if said and not program.package:
        yield from labelled("", f"says: {said[0]}")
    if program.sha256:
        yield from labelled("sha256", program.sha256)
    if program.libraries:
        number = len(program.libraries)
        yield from labelled(
            "", f"with {number} {'library' if number == 1 else 'libraries'} of its own, see record.json"
        )


def _device(e: Environment) -> str:
    """The device's own arguments on the command line, each once."""
    argv = e.argv
    found = [
        f"{flag} {re.sub(r',?(path|id|addr)=(,,|[^,])*', '', words)}"
        for flag, words in pairwise(argv)
        if flag in ("-fsdev", "-device", "-virtfs", "-s") and (_DEVICE.search(words) or flag in ("-fsdev", "-virtfs"))
    ]
    kept = dict.fromkeys(re.sub(r"(fsdev|mount_tag)=\w*?(\d*)(,|$)", r"\1=..\3", one) for one in found)
    return sentence(kept, "; ") or (f"security_model={e.security_model}" if e.security_model else "")


def _guest(e: Environment) -> str:
    image = f"{e.guest_image} image {e.guest_image_hash}" if e.guest_image_hash else e.guest_image
    cpus = _option(e.argv, "-smp")
    memory = _option(e.argv, "-m")
    why = first_sentence(_SOURCE.sub("", e.accelerator_reason), 110)
    speed = e.accelerator.upper() + (f" ({why})" if why else "")
    memory = f"{memory} MB" if memory.isdigit() else ""  # -m of Python names a module
    parts = [image, e.guest_kernel and f"Linux {e.guest_kernel}", cpus and f"{cpus} vCPU", memory]
    return sentence(
        [
            *parts,
            speed if e.accelerator else "",
            f"reached by {_PORT.sub('', e.access)}" if e.access else "",
        ]
    )


def _option(argv: list[str], flag: str) -> str:
    return next((value for word, value in pairwise(argv) if word == flag), "")


def _host(e: Environment) -> str:
    cpus = f"{e.host_cpus} CPUs {e.host_cpu_model}".strip() if e.host_cpus else ""
    return sentence([e.host_distribution, e.host_kernel, cpus, e.host_user and f"run as {e.host_user}"])


def _export(e: Environment) -> str:
    if (there := e.exported) is None:
        return "not on a file system of this host that could be looked at" if e.scope is not None else ""
    properties = sentence([f"{name}={value}" for name, value in there.properties.items()])
    return sentence([f"{there.type} {there.source} ({there.options})", properties], "; ")


def _suite(seen: Overview) -> str:
    e = seen.record.environment
    commit = e.assay9_commit
    state = "with local changes" if commit.endswith("-dirty") else "clean" if commit else "no checkout"
    met = len({entry.model_dump_json() for entry, _ in seen.known_entries()})
    files = sentence([f"{Path(path).name} {digest[:8]}" for path, digest in e.profiles.items()])
    declared = f" ({e.declared} known failures declared, {met} met)" if e.declared else ""
    parts = [f"assay9 {e.assay9_version}", commit and f"commit {commit.removesuffix('-dirty')[:12]}", state]
    return sentence([sentence(parts), f"profiles by sha256 {files}{declared}" if files else ""], "; ")


def _when(seen: Overview) -> str:
    e = seen.record.environment
    took = elapsed(seen.record)
    parts = [f"{e.started:%Y-%m-%d %H:%M} UTC", f"took {duration(took)}" if took is not None else "end not known"]
    return sentence([*parts, e.job_url])


def reproduce(seen: Overview, case: CaseResult | None) -> Section:
    """The commands that repeat the run, and that case alone."""
    e = seen.record.environment
    lines = []
    if e.assay9_commit:
        at = e.assay9_commit.removesuffix("-dirty")[:12]
        lines.append(f"  in a clone of assay9: git checkout {at} && make setup")
        lines.append("  . .venv/bin/activate")
    # --results is a private directory of the writer
    words = _without(shlex.split(e.command), "--results") if _splits(e.command) else []
    if words:
        lines += command(words, 3)
        if case is not None:
            mount = ["--mount", case.mount] if case.mount else []
            alone = shlex.join([*_without(words, *_CHOOSES), "-k", case.case_id, *mount])
            lines += wrapped(f"one case: {alone}", "  ", "      ")
    return Section("REPRODUCE", lines, least=5)


def _splits(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:  # a record before schema version 3, whose command is not quoted
        return False


_CHOOSES = ("-k", "--family", "--mount", "--mounts", "--jobs", "--build-id", "--base")
"""The options that choose cases, and those that mean nothing to one case."""


def _without(words: list[str], *options: str) -> list[str]:
    """The command without these options and their values."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in options and word.partition("=")[0] not in options:
            kept.append(word)
        skip = word in options and not skip
    return kept


def kept_at(seen: Overview, run_dir: Path | None) -> Section:
    """The record by its hash, and the files beside it."""
    lines: list[str] = []
    if run_dir is None:
        return Section("", lines)
    record = run_dir / "record.json"
    try:
        size = record.stat().st_size / 1e6
        with record.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        lines = wrapped(f"{run_dir.name}: no record.json; the run did not finish", "  ")
    else:
        version = seen.record.schema_version
        lines = wrapped(f"{run_dir.name}/record.json ({size:.0f} MB, schema {version}), report.html, junit.xml", "  ")
        lines.append(f"  sha256 {digest}")
        signed = ", signed: attestation.json.sig" if (run_dir / "attestation.json.sig").is_file() else ""
        lines += wrapped(f"{MANIFEST} there has the hash of every file{signed}; `assay9 verify` checks", "  ")
    return Section("EVIDENCE", lines, tight=True)
