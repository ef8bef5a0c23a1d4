"""Whether this user on this host can build guest images, and what is missing when not."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from guests.errors import InfrastructureError


def missing_build_packages() -> list[str]:
    """Debian packages that a build needs and that are not installed."""
    needed = {"mmdebstrap": "mmdebstrap", "mksquashfs": "squashfs-tools"}
    if os.geteuid() != 0:
        needed["newuidmap"] = "uidmap"
    return sorted(package for program, package in needed.items() if shutil.which(program) is None)


def require_build_tools() -> None:
    """Raise InfrastructureError, one line that names what a build needs and this machine does not have."""
    missing = missing_build_packages()
    if missing:
        raise InfrastructureError(
            f"building a guest image needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}"
        )
    if os.geteuid() != 0:
        problem = user_namespace_problem()
        if problem:
            raise InfrastructureError(*problem)


def user_namespace_problem() -> tuple[str, str] | None:
    """Why this user cannot build in a user namespace, with the remedy; None when it can."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    for table in (Path("/etc/subuid"), Path("/etc/subgid")):
        text = table.read_text(encoding="utf-8") if table.exists() else ""
        owners = {line.partition(":")[0] for line in text.splitlines()}
        if not owners & {user, str(os.geteuid())}:
            return (
                f"building without root needs a line for {user} in {table}",
                f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )
    argv = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    if tried.returncode != 0:
        said = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return (
            f"ordinary users cannot make user namespaces here ({said})",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        )
    return None
