"""KVM or TCG: decided by booting, because a ``/dev/kvm`` that opens may still not run a kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.processes import dying_with_parent, end
from guests.host.progress import Progress, silent
from guests.host.waiting import happens
from guests.images.store import Image

PROBE_LIMIT = 10.0
"""Seconds that the probe guest has to report; with a working KVM it takes about one."""


def qemu_identity(qemu: str) -> str:
    """Path, version, size and time of the QEMU binary: changes whenever the binary does."""
    path = find_qemu(qemu)
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def find_qemu(qemu: str) -> Path:
    """The QEMU program; raises InfrastructureError when there is none."""
    where = shutil.which(qemu)
    if where is None:
        raise InfrastructureError(
            f"no QEMU at {qemu!r}", "apt-get install qemu-system-x86, or name yours with --qemu PATH"
        )
    return Path(where).resolve()


def qemu_version(qemu: str) -> str:
    """The first line of ``--version``; raises InfrastructureError when the program does not run."""
    path = find_qemu(qemu)
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"{path} --version does not run: {error}", "name a QEMU with --qemu PATH") from error
    if done.returncode != 0:
        raise InfrastructureError(f"{path} --version failed: {done.stderr.strip()}", "name a QEMU with --qemu PATH")
    return next(iter(done.stdout.splitlines()), f"{path} prints no version")


def choose_accelerator(wanted: str, image: Image, qemu: str, progress: Progress = silent) -> tuple[str, str]:
    """``kvm`` or ``tcg``, and why. ``auto`` takes KVM where the probe boots; ``kvm`` insists."""
    if wanted == "tcg":
        return "tcg", "requested"
    works, why = kvm_works(image, qemu, progress)
    if wanted == "kvm" and not works:
        raise InfrastructureError(f"accelerator kvm does not work: {why}", "use accelerator auto or tcg")
    return ("kvm", why) if works else ("tcg", f"no KVM: {why}")


def kvm_works(image: Image, qemu: str, progress: Progress = silent, again: bool = False) -> tuple[bool, str]:
    """Whether a kernel boots under KVM here, and what was seen.

    Remembered per host kernel, QEMU binary and image; ``again`` probes again.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "no /dev/kvm" if not Path("/dev/kvm").exists() else "no permission to use /dev/kvm"
    memory = paths.cache_dir() / "kvm-probe.json"
    key = f"{os.uname().release} {os.uname().version} {qemu_identity(qemu)} {image.digest}"
    known = _remembered(memory)
    if key in known and not again:
        return known[key][0], known[key][1]
    progress("probing whether KVM really boots a kernel")
    answer = _probe(image, qemu)
    temporary = memory.with_suffix(f".tmp{os.getpid()}")
    temporary.write_text(json.dumps({**dict(list(known.items())[-20:]), key: answer}), encoding="utf-8")
    temporary.rename(memory)
    progress(f"KVM {'works' if answer[0] else 'does not work: ' + answer[1]}")
    return answer


def _remembered(memory: Path) -> dict[str, tuple[bool, str]]:
    try:
        loaded = json.loads(memory.read_text(encoding="utf-8"))
        return {str(key): (bool(value[0]), str(value[1])) for key, value in loaded.items()}
    except (OSError, ValueError, TypeError, IndexError, AttributeError):
        return {}


_BOOTED = b"ASSAY9-PROBE-OK"
"""What the guest says on its console once it is up."""


def _probe(image: Image, qemu: str) -> tuple[bool, str]:
    argv = [str(find_qemu(qemu)), "-M", "pc", "-accel", "kvm", "-cpu", "max", "-m", "512", "-nodefaults"]
    argv += ["-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none"]
    argv += ["-kernel", str(image.vmlinux), "-initrd", str(image.initramfs)]
    argv += ["-append", "console=ttyS0 quiet panic=-1 rdinit=/init assay9.probe"]
    process = subprocess.Popen(
        dying_with_parent(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    output, said = process.stdout, bytearray()

    def decided() -> bool:
        ended = process.poll() is not None
        said.extend(output.read() or b"")
        return ended or _BOOTED in said

    try:
        if not happens(decided, PROBE_LIMIT, 0.05):
            return False, f"a guest under KVM did not boot within {PROBE_LIMIT:.0f} s"
        if _BOOTED in said:
            return True, "a guest booted"
        words = said.decode("utf-8", "replace").strip().splitlines()
        return False, words[-1][:200] if words else "QEMU ended without output"
    finally:
        end(process, patience=0.5)
        process.stdout.close()
