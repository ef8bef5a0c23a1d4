"""Boot once, save the machine (``savevm``), and restore that for each run.

A snapshot is a directory in the cache with ``state.qcow2``: the guest's native file system and, as an
internal snapshot called ``ready``, memory and devices. Each start works on a copy.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from guests.agent.clock import WrongClock
from guests.cache.cached import Cached
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.files import remove_tree, require_space
from guests.host.progress import Progress
from guests.images.store import Image
from guests.machines.qemu.accelerator import qemu_identity, qemu_version
from guests.machines.qemu.argv import SNAPSHOT_NAME, snapshot_key
from guests.machines.qemu.launch import Launch
from guests.machines.spec import MachineSpec

BOOT_LIMIT = 240.0
"""Seconds that a booting guest has; under TCG on a busy machine it takes ten."""

SNAPSHOT_SPACE_MB = 800
"""Two copies of a snapshot of the default machine, with air."""

MOST_SNAPSHOTS = 12
"""Snapshots kept; the ones unused for longest go when a new one is made."""


_BOOTS = 3
"""Boots for one snapshot: a clock may go wrong, and the second boot gets the frequency that the first mismeasured."""

WARM_UP = "cat /usr/sbin/sshd /bin/bash > /dev/null; sync"
"""Run before saving: what a restored guest needs first is then in its memory."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A saved machine."""

    directory: Path

    @property
    def state(self) -> Path:
        return self.directory / "state.qcow2"


def cached_snapshot(spec: MachineSpec, accelerator: str, image: Image) -> Cached:
    """Where the cache keeps the snapshot for machines like ``spec``."""
    key = snapshot_key(spec, accelerator, image.digest, qemu_identity(spec.qemu))
    directory = paths.snapshots_dir() / f"{image.directory.name}-{key}"
    return Cached(f"snapshot {key} of {image.name}", directory, ("state.qcow2",))


def ensure_snapshot(
    spec: MachineSpec, accelerator: str, image: Image, progress: Progress, rebuild: bool = False
) -> tuple[Snapshot, bool]:
    """The snapshot for machines like ``spec``, and whether it was made now.

    It is made by booting a machine if it is absent, damaged, or to be rebuilt. The logs of that boot are in the run's
    directory. Raises InfrastructureError.
    """
    cached = cached_snapshot(spec, accelerator, image)

    def make(directory: Path) -> None:
        _forget_oldest()
        require_space(directory.parent, SNAPSHOT_SPACE_MB, "saving a booted guest")
        _make(spec, accelerator, image, directory, progress)

    made = cached.ensure(make, progress, rebuild=rebuild)
    with contextlib.suppress(OSError):
        (cached.directory / "used").touch()
    return Snapshot(cached.directory), made


def _make(spec: MachineSpec, accelerator: str, image: Image, directory: Path, progress: Progress) -> None:
    progress(f"booting {image.name} once under {accelerator.upper()}, to save it (ten seconds or so)")
    started = time.monotonic()
    empty = directory / "empty"
    empty.mkdir()
    # The present shares do not matter, and the directory of a later run must not be needed now.
    shares = tuple(
        replace(share, path=empty, security_model="none", readonly=False, options={}) for share in spec.shares
    )
    booted = replace(spec, shares=shares, ssh_port=None, keep=False, host_args=(), launcher=())
    # Not in the directory that is being made: a failure removes it, and the message names the logs.
    run_dir = spec.run_dir.absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    logs = {"console": run_dir / "snapshot-console.log", "qemu": run_dir / "snapshot-qemu.log"}
    blank = directory / "blank.qcow2"
    _create_disk(blank, spec.control_mb)
    kernel_arguments: tuple[str, ...] = ()
    for boots_left in reversed(range(_BOOTS)):
        booting = Launch(
            booted, accelerator, image, logs=logs, state=blank, restore=False, kernel_arguments=kernel_arguments
        )
        try:
            booting.wait_ready(BOOT_LIMIT)
            try:
                booting.check_clock()
            except WrongClock as error:
                if not boots_left:
                    raise
                kernel_arguments = _known_frequency(booting)
                progress(f"{error.message}: booting again")
                continue
            _save(booting, directory / "state.qcow2")
            break
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError("QEMU did not end after saving the guest", f"see {logs['qemu']}") from error
        finally:
            booting.stop()
    blank.unlink()
    empty.rmdir()
    (directory / "meta.json").write_text(
        json.dumps(
            {
                "image": image.digest,
                "accelerator": accelerator,
                "qemu": qemu_version(spec.qemu),
                "argv": booting.argv,
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    progress(f"booted and saved {image.name} in {time.monotonic() - started:.0f} s")


def _save(booting: Launch, state: Path) -> None:
    """Save the machine as a snapshot in its disk, end it, and move the disk to ``state``."""
    shell = booting.connect()
    shell.run(WARM_UP, 120.0)
    shell.close()
    time.sleep(0.5)  # let the guest close the connection, or it would be part of the snapshot
    assert booting.qmp is not None and booting.process is not None
    booting.qmp.execute("stop")
    booting.qmp.human(f"savevm {SNAPSHOT_NAME}", limit=300.0)
    with contextlib.suppress(InfrastructureError):
        booting.qmp.execute("quit")
    booting.process.wait(60)
    shutil.move(booting.disk, state)


def _known_frequency(booting: Launch) -> tuple[str, ...]:
    """The counter's true frequency, so that the next boot skips the measurement that was wrong in this one.

    The kernel logs the frequency that it used; its clock is wrong by the same factor. Source: tsc_early_khz in the
    kernel's Documentation/admin-guide/kernel-parameters.txt (commit bd35c77e32e4; kernels without it ignore the word).
    """
    shell = booting.connect()
    try:
        taken = re.findall(
            r"tsc: (?:Detected|Refined TSC clocksource calibration:?) ([\d.]+) MHz", shell.run("dmesg", 60.0).stdout
        )
    finally:
        shell.close()
    if not taken:
        return ()
    return (f"tsc_early_khz={round(float(taken[-1]) * 1000 * booting.clock_rate())}",)


def _create_disk(path: Path, size_mb: int) -> None:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), f"{size_mb}M"]
    try:
        subprocess.run(argv, capture_output=True, text=True, errors="replace", check=True, timeout=60)
    except FileNotFoundError as error:
        raise InfrastructureError("qemu-img is not installed", "apt-get install qemu-utils") from error
    except subprocess.SubprocessError as error:
        raise InfrastructureError(f"qemu-img failed: {getattr(error, 'stderr', error)}") from error


def _forget_oldest() -> None:
    """Bound the cache: each set of QEMU arguments makes its own snapshot."""
    found = [entry for entry in paths.snapshots_dir().iterdir() if not entry.name.startswith(".")]
    found.sort(key=lambda entry: max(entry.stat().st_mtime, _mtime(entry / "used")), reverse=True)
    for entry in found[MOST_SNAPSHOTS - 1 :]:
        remove_tree(entry)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
