"""The machine that the suite runs on, for the evidence. It reads, changes nothing, never fails."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conformance.evidence.models import Environment

CHECKOUT = Path(__file__).resolve().parents[2]


def with_host_facts(environment: Environment) -> Environment:
    """The environment, with empty fields about this host and this suite filled in."""
    facts: dict[str, Any] = {
        "host_kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "host_distribution": _distribution(),
        "host_cpus": os.cpu_count() or 0,
        "host_cpu_model": _cpu_model(),
        "host_python": platform.python_version(),
        "host_user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "assay9_version": _version(),
        "assay9_commit": commit_of(CHECKOUT),
    }
    return environment.model_copy(update={k: v for k, v in facts.items() if not getattr(environment, k)})


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, with -dirty if tracked files differ; empty if it is no checkout."""
    if not (checkout / ".git").exists():
        return ""
    described = _git(checkout, "rev-parse", "HEAD")
    if described and _git(checkout, "status", "--porcelain", "--untracked-files=no"):
        return f"{described}-dirty"
    return described


def _git(checkout: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _cpu_model() -> str:
    """The CPU model as Linux names it; elsewhere as Python's platform module names it."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", said, re.M)
    return " ".join(found[1].split()) if found else platform.machine()


def _version() -> str:
    try:
        return version("assay9")
    except PackageNotFoundError:
        return ""
