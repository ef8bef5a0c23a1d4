"""The QEMU to run, its version, and the security model of its device."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import cast

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.parts.devices import security_models
from guests.host.progress import Progress, silent
from guests.machines.qemu import private as private_qemu
from guests.machines.spec import SecurityModel
from guests.words import unknown


def security_model(asked: str | None, own: SecurityModel) -> SecurityModel:
    """The model from the command line; otherwise the target's own, or mapped-xattr if that needs host root."""
    if asked is None:
        return "mapped-xattr" if own == "passthrough" and os.geteuid() != 0 else own
    if asked not in security_models.MODELS:
        raise UsageError(unknown("security model", asked, security_models.MODELS))
    if asked == "passthrough" and os.geteuid() != 0:
        raise UsageError("security model passthrough needs root on the host: use mapped-xattr, or run as root")
    return cast(SecurityModel, asked)


def find_program(name: str, progress: Progress = silent) -> str:
    """The hypervisor's path; `qemu11` is fetched first if it is not in the cache.

    Raises UsageError if a path is no program, InfrastructureError that says what to install.
    """
    if name == private_qemu.NAME:
        return str(private_qemu.ensure_private_qemu(progress))
    path = shutil.which(name)
    if path is None and "/" in name:
        raise UsageError(f"{name} is not an executable program: name another with --qemu PATH")
    if path is None:
        raise InfrastructureError(f"{name} is not installed", "run `make setup`, or name yours with --qemu PATH")
    return path


def program_version(program: str) -> str:
    """`7.2.22` of `qemu-system-x86_64 --version`."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace", timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise InfrastructureError(f"{program} --version fails: {e}", "name a working QEMU with --qemu PATH") from None
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else done.stdout.strip()[:40]
