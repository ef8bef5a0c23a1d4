"""KVM or TCG: decided by booting, because a ``/dev/kvm`` that opens may still not run a kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.processes import dying_with_parent, end
from guests.host.progress import Progress, silent
from guests.images.store import Image

LEAST = 10.0
"""Seconds that the probe's guest has to boot under KVM in any case; on an idle machine it takes about one."""
PATIENCE = 2.0
"""How many times as long as under TCG it may take: a KVM that is slower than emulation is of no use."""
MOST = 300.0
"""Seconds, where the guest does not boot under TCG either, or QEMU was built without it."""


def qemu_identity(qemu: str) -> str:
    """Path, version, size and time of the QEMU binary: changes whenever the binary does."""
    path = find_qemu(qemu)
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def find_qemu(qemu: str) -> Path:
    """The QEMU program; raises InfrastructureError if there is none."""
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
    """``kvm`` or ``tcg``, and why. ``auto`` uses KVM if the probe boots; ``kvm`` insists."""
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
    answer = probe(image, qemu, Boot)
    temporary = memory.with_suffix(f".tmp{os.getpid()}")
    temporary.write_text(json.dumps({**dict(list(known.items())[-20:]), key: answer}), encoding="utf-8")
    temporary.rename(memory)
    progress(f"KVM {'works' if answer[0] else 'does not work: ' + answer[1]}")
    return answer


def _remembered(memory: Path) -> dict[str, tuple[bool, str]]:
    try:
        loaded = json.loads(memory.read_text(encoding="utf-8"))
        return {str(key): (bool(value[0]), str(value[1])) for key, value in loaded.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}


_BOOTED = b"ASSAY9-PROBE-OK"
"""What the guest says on its console once it is up."""


def probe(image: Image, qemu: str, boot: type[Boot]) -> tuple[bool, str]:
    """Boot the same guest under KVM and, in parallel, under TCG, which shows how fast this host is at the moment.

    A slow KVM is not a broken one: on a busy host, or nested in an emulated one, a successful boot takes a minute.
    """
    begun, limit, beside = time.monotonic(), MOST, ""
    with boot("kvm", image, qemu) as kvm, boot("tcg", image, qemu) as tcg:
        while not kvm.booted() and not kvm.ended():
            took = time.monotonic() - begun
            if not beside and tcg.booted():
                limit, beside = max(LEAST, PATIENCE * took), f"; under TCG it took {took:.0f} s"
            if took > limit:
                return False, f"a guest under KVM did not boot within {took:.0f} s{beside}"
            time.sleep(0.05)
        return (True, "a guest booted") if kvm.booted() else (False, kvm.last_words())


class Boot:
    """One boot of the probe's guest. A context manager: QEMU ends with it."""

    def __init__(self, accelerator: str, image: Image, qemu: str) -> None:
        argv = [str(find_qemu(qemu)), "-M", "pc", "-accel", accelerator, "-cpu", "max", "-m", "512", "-nodefaults"]
        argv += ["-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none"]
        argv += ["-kernel", str(image.vmlinux), "-initrd", str(image.initramfs)]
        argv += ["-append", "console=ttyS0 quiet panic=-1 rdinit=/init assay9.probe"]
        self._process = subprocess.Popen(
            dying_with_parent(self.command(argv)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        self._output, self._said = self._process.stdout, bytearray()
        os.set_blocking(self._output.fileno(), False)

    def command(self, argv: list[str]) -> list[str]:
        """Its command line."""
        return argv

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process, patience=0.5)
        self._output.close()

    def booted(self) -> bool:
        """The guest has reported that it is up."""
        self._said.extend(self._output.read() or b"")
        return _BOOTED in self._said

    def ended(self) -> bool:
        """QEMU has ended, and all its output has been read."""
        return self._process.poll() is not None and not self.booted()

    def last_words(self) -> str:
        """The last line of QEMU or the guest."""
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else "QEMU ended without output"
