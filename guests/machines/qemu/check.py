"""Whether a QEMU has what a machine needs: checked with the program itself before anything starts.

Rule of this module: QEMU is started only to list what it has (`-device help`) or, stopped, to check its arguments; a
tenth of a second in all. Its output may be anything, even not UTF-8.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guests.errors import InfrastructureError, UsageError
from guests.host.processes import end, end_session, piped, start_time
from guests.host.waiting import happens
from guests.machines.qemu.qmp import Qmp
from guests.words import shown

LIMIT = 20.0
"""Seconds that a QEMU has for each answer; it takes a tenth of one."""

OTHER_PROCESS = "it starts QEMU in another process, which could not be watched or ended: write exec before QEMU's path"
"""What is wrong with a script that waits for its QEMU, or leaves it in the background."""


@dataclass(frozen=True, slots=True)
class Need:
    """Something that QEMU must have."""

    asked: str
    """The option whose help lists it: `-device`, `-netdev`, `-accel`, `-M`; `-L` for a file of the data directory."""
    name: str
    use: str
    """What for, and how QEMU is built with it."""


MACHINE = (
    Need("-M", "pc", "the machine: target x86_64-softmmu"),
    Need("-accel", "tcg", "emulation where KVM does not work: configure --enable-tcg"),
    Need("-netdev", "user", "SSH to the guest, slirp: configure --enable-slirp"),
    Need("-device", "virtio-blk-pci", "the guest's disks: CONFIG_VIRTIO_BLK"),
    Need("-device", "virtio-net-pci", "the guest's network: CONFIG_VIRTIO_NET"),
    Need("-device", "pvpanic-pci", "says when the guest's kernel panics: CONFIG_PVPANIC_PCI"),
    Need("-device", "isa-serial", "the guest's console: CONFIG_SERIAL_ISA"),
    Need("-L", "bios-256k.bin", "firmware of SeaBIOS: name its directory with -L"),
    Need("-L", "kvmvapic.bin", "firmware of QEMU's pc-bios: name its directory with -L"),
    Need("-L", "pvh.bin", "boots the guest's kernel, of QEMU's pc-bios: name its directory with -L"),
)
"""What every machine with a guest needs."""
SHARES = (Need("-device", "virtio-9p-pci", "the shares, virtfs: configure --enable-virtfs"),)
"""What QEMU's own virtio-9p device needs."""
BACK_ENDS = (Need("-device", "vhost-user-test-device-pci", "the shares' back ends: QEMU 11 or later"),)
"""What devices in other processes need."""
QTEST = (
    Need("-M", "pc", "the machine: target x86_64-softmmu"),
    Need("-accel", "tcg", "a machine whose processor never runs: configure --enable-tcg"),
    Need("-L", "bios-256k.bin", "firmware of SeaBIOS: name its directory with -L"),
    Need("-L", "kvmvapic.bin", "firmware of QEMU's pc-bios: name its directory with -L"),
)
"""What a machine needs that is driven over qtest and boots nothing."""


def version(program: str) -> str:
    """`7.2.22` of `qemu-system-x86_64 --version`. Raises UsageError if that is not a QEMU."""
    said = _said([program, "--version"])
    found = re.search(r"QEMU emulator version (\S+)", said)
    if found is None:
        line = next((line for line in said.splitlines() if line.strip()), "nothing")
        raise UsageError(f"{program} is not a QEMU: --version prints {shown(line)}; name another with --qemu")
    return found[1]


def require(program: str, needs: Sequence[Need], arguments: Sequence[str] = (), memory_mb: int = 512) -> None:
    """Refuse a QEMU that misses something needed, naming each, or that rejects these further arguments.

    Raises UsageError, one line.
    """
    missing = [need for need, there in _answers(program, needs, arguments).items() if not there]
    if missing:
        each = "; ".join(f"{_spelt(need)} ({need.use})" for need in missing)
        raise UsageError(f"QEMU {version(program)} at {program} is without {each}; name another with --qemu")
    refused = _dry_start(program, arguments, memory_mb)
    if refused:
        given = f" with {' '.join(arguments)}" if arguments else ""
        raise UsageError(f"{program} does not start{given}: {refused}")


def _answers(program: str, needs: Sequence[Need], arguments: Sequence[str]) -> Mapping[Need, bool]:
    """For each need whether it is satisfied; all lists are queried in parallel."""
    asked = list(dict.fromkeys(need.asked for need in needs))
    # The arguments come last, as in a real start; only -L and -M change what is listed.
    running = {option: _start([program, *_data_directories(arguments), option, "help"]) for option in asked}
    lists = {option: _listed(option, _outcome(process)) for option, process in running.items()}
    return {need: need.name in lists[need.asked] for need in needs}


def _listed(option: str, said: str) -> set[str]:
    if option == "-device":
        return set(re.findall(r'^name "([^"]+)"', said, re.MULTILINE))
    if option == "-L":
        found: set[str] = set()
        for line in said.splitlines():
            with contextlib.suppress(OSError, ValueError):
                found |= {entry.name for entry in Path(line.strip()).iterdir() if os.access(entry, os.R_OK)}
        return found
    return {line.split()[0] for line in said.splitlines() if line.strip()}


def _data_directories(arguments: Sequence[str]) -> Iterator[str]:
    """The `-L DIR` among them."""
    for option, value in itertools.pairwise(arguments):
        if option in ("-L", "--L"):
            yield from ("-L", value)


def _dry_start(program: str, arguments: Sequence[str], memory_mb: int) -> str:
    """Start a stopped machine without our devices; returns why QEMU refuses, or nothing."""
    with tempfile.TemporaryDirectory(prefix="assay9-qemu-") as directory:
        control = Path(directory) / "qmp"
        argv = [program, "-M", "pc", "-accel", "tcg", "-m", str(memory_mb), "-nodefaults", "-no-user-config"]
        argv += ["-display", "none", "-S", "-qmp", f"unix:{control},server=on,wait=off", *arguments]
        process = _start(argv)
        qmp = None
        try:
            qmp = happens(lambda: _connected(control, process), LIMIT)
            if qmp is None:
                raise UsageError(
                    f"{program} opens no control socket within {LIMIT:.0f} s: name a QEMU with --qemu PATH"
                )
            if isinstance(qmp, Qmp):
                ours = qmp.process == process.pid
                qmp.execute("quit", limit=LIMIT)
                happens(lambda: start_time(qmp.process) is None, LIMIT)  # a daemon is not in our session
                return "" if ours else OTHER_PROCESS
            if end_session(process.pid):
                return OTHER_PROCESS
            said = _outcome(process)
        finally:
            if isinstance(qmp, Qmp):
                qmp.close()
            end(process)
            end_session(process.pid)
    lines = [line for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if "module" not in line and "warning:" not in line] or lines
    return reasons[0].strip()[:300] if reasons else f"it ends with status {process.returncode}"


def _connected(control: Path, process: subprocess.Popen[bytes]) -> Qmp | Literal["ended"] | None:
    """A connection to QEMU's control socket, or "ended"; None while QEMU starts."""
    over = process.poll() is not None
    with contextlib.suppress(InfrastructureError):  # bound, but not listening yet; or QEMU is about to end
        return Qmp(control, limit=LIMIT)
    return "ended" if over else None


def _said(argv: list[str]) -> str:
    return _outcome(_start(argv))


def _start(argv: list[str]) -> subprocess.Popen[bytes]:
    try:
        return piped(argv)
    except OSError as error:
        raise UsageError(f"{argv[0]} cannot be run: {error.strerror}; name a QEMU with --qemu PATH") from None


def _outcome(process: subprocess.Popen[bytes]) -> str:
    """Its output until it ended. Raises UsageError if it does not end."""
    try:
        out, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        end(process, patience=0.5)
        end_session(process.pid)
        command = " ".join(map(str, process.args[-2:])) if isinstance(process.args, list) else ""
        raise UsageError(f"{command} does not answer within {LIMIT:.0f} s: name a QEMU with --qemu PATH") from None
    return out.decode("utf-8", "replace")


def _spelt(need: Need) -> str:
    names = {"-M": "machine", "-accel": "accelerator", "-netdev": "-netdev", "-device": "device", "-L": "file"}
    return f"{names[need.asked]} {need.name}"
