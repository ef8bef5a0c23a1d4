"""Further options of mmdebstrap for single images, which leave all other images as they are.

The source of the modules that build an image is part of every image's hash; so what only one needs is here, and reaches
mmdebstrap by a program of that name that comes first in PATH.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_EXPIRED = '--aptopt=Acquire::Check-Valid-Until "false"'
"""A release of testing is valid for a week: a mirror's copy is often older, or a clock ahead. Source: apt.conf(5)."""
_KERNEL_IN_BOOT = (
    '--customize-hook=for release in "$1"/kernel-files/lib/modules/*; do mkdir -p "$1/kernel-files/boot"; '
    'mv "$release/vmlinuz" "$1/kernel-files/boot/vmlinuz-${release##*/}"; done'
)
"""Debian's package linux-binary has the kernel beside its modules; it is looked for in /boot."""
OPTIONS: Mapping[str, tuple[str, ...]] = {"debian-testing": (_EXPIRED, _KERNEL_IN_BOOT)}
"""Image -> its further options. A hook comes after the one that fetches the kernel."""


@contextmanager
def given(name: str) -> Iterator[None]:
    """Within the block mmdebstrap, found by PATH, has the further options of that image."""
    options, real = OPTIONS.get(name, ()), shutil.which("mmdebstrap")
    if not options or real is None:  # the build says what is missing
        yield
        return
    before = os.environ.get("PATH", os.defpath)
    with tempfile.TemporaryDirectory(prefix="assay9-mmdebstrap-") as directory:
        program = Path(directory) / "mmdebstrap"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(real)} "$@" {shlex.join(options)}\n', encoding="utf-8")
        program.chmod(0o755)
        os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before
