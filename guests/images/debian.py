"""Runs mmdebstrap: a root file system of a Debian release as a tar, without changing this host.

mmdebstrap uses the host's own mirrors, proxies and keys: none is named here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from guests.build_tools import missing_build_packages, user_namespace_problem
from guests.errors import InfrastructureError
from guests.host.files import require_space
from guests.host.processes import claimed, each_line
from guests.host.progress import Progress

LIMIT = 1800.0
"""Seconds after which mmdebstrap is ended; a root takes about one minute with a near mirror."""

_APART = (
    "unshare",
    *(() if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")),
    *("--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--"),
)
"""Namespaces for mmdebstrap. Killed by itself it leaves mounts and children behind (seen with 1.3.5), so its
mounts and processes are put where they end with one process. Without root it thinks itself root in there."""


def require_tools(what: str) -> None:
    """Raises InfrastructureError if this host does not have what building `what` needs."""
    if missing := missing_build_packages():
        raise InfrastructureError(f"{what} needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    if os.geteuid() != 0 and (problem := user_namespace_problem()):
        raise InfrastructureError(*problem)


def make_root(
    suite: str,
    packages: Sequence[str],
    output: Path,
    *,
    name: str,
    progress: Progress,
    space_mb: int,
    variant: str = "minbase",
    options: Sequence[str] = (),
) -> None:
    """Write the tar of a root of `suite` that holds `packages` to `output`, and mmdebstrap's log beside it.

    `options` are further options of mmdebstrap, `space_mb` the most that it unpacks, `name` the subject of progress and
    errors ("image debian12"). Raises InfrastructureError with the remedy.
    """
    argv = ["mmdebstrap", "--mode=root", f"--variant={variant}", f"--include={','.join(packages)}"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in ("doc", "locale", "man", "info")]
    argv += ["--aptopt=Acquire::Retries 3", *options, "--format=tar", suite, str(output)]
    # apt's own user must reach the working directory, which a cache below a home directory of mode 0700
    # would prevent: so mmdebstrap works where TMPDIR says, or in /var/tmp.
    scratch = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"assay9-build-{secrets.token_hex(4)}"
    require_space(scratch.parent, space_mb, f"unpacking {name}")
    progress(f"{name}: mmdebstrap {suite} (about a minute with a near mirror)")
    with claimed(scratch):
        scratch.mkdir()
        scratch.chmod(0o755)
        status, lines = _run(argv, {**os.environ, "TMPDIR": str(scratch)}, name, progress)
    output.with_name("mmdebstrap.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if status != 0:
        raise _explained(suite, variant, lines)


def _run(argv: list[str], environment: dict[str, str], name: str, progress: Progress) -> tuple[int, list[str]]:
    """Run mmdebstrap and report its steps; returns its exit status and all lines.

    When this process dies in any way, everything that mmdebstrap started and mounted ends with it.
    """
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line.rstrip())
        if line.startswith("I: ") and line.endswith("...\n"):
            progress(f"{name}: {line[3:].strip()}")

    return each_line([*_APART, *argv], LIMIT, take, env=environment), lines


def _explained(suite: str, variant: str, lines: list[str]) -> InfrastructureError:
    said = [line for line in lines if line.startswith(("E: ", "Err:", "W: ")) or "No space left" in line]
    text = "\n".join(said)
    where = said[0] if said else (lines[-1] if lines else "it printed nothing")
    if "No space left" in text:
        remedy = "free some space in TMPDIR (default /var/tmp) and in the cache"
    elif "is expired" in text:
        remedy = "the mirror's copy of the release is too old, or this host's clock is wrong"
    elif "resolve" in text or "onnect" in text or "Failed to fetch" in text:
        remedy = "the package archive is not reachable: check the network and the proxy of apt, then retry"
    elif "signature" in text or "NO_PUBKEY" in text:
        remedy = "install a newer debian-archive-keyring"
    else:
        remedy = f"try by hand: mmdebstrap --variant={variant} {suite} /dev/null"
    return InfrastructureError(f"mmdebstrap {suite} failed: {where[:300]}", remedy)
