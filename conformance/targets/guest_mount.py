"""Mounting a 9P share in a Linux guest, and believing it only when /proc/mounts says so."""

from __future__ import annotations

import re

from conformance.errors import InfrastructureError, Undrivable
from conformance.mounts import MountOptions
from guests.agentlink import AgentLink


def mount_9p(inside: AgentLink, directory: str, options: MountOptions, source: str, transport: str) -> str:
    """Mount `source` (a mount tag or an address) at `directory`; its line of /proc/mounts.

    Raises Undrivable where the guest's kernel does not know the option, InfrastructureError where mount fails
    or something else than was asked for is in force.
    """
    inside.call("rmtree", directory)  # never a mount point here: unmount() comes first
    inside.call("mkdir", directory)
    argv = ["mount", "-t", "9p", "-o", options.options(transport), source, directory]
    done = inside.call("run", argv, timeout=60.0)
    if done["status"] != 0:
        said = done["stderr"].decode(errors="replace").strip()
        if unknown := unknown_option(inside, options):
            raise Undrivable(f"the guest's kernel refuses {unknown} ({said})")
        raise InfrastructureError(
            f"mounting {source} with {options} failed in the guest: {said}",
            "see the guest's console log; `assay9 guest ssh` to try by hand",
        )
    line = mounted(inside, directory)
    if line is None:
        raise InfrastructureError(f"mount said yes, but /proc/mounts has nothing at {directory}")
    wrong = options.contradicted_by(line.split()[3])
    if wrong:
        unmount(inside, directory)
        raise Undrivable(f"/proc/mounts contradicts {options}: {'; '.join(wrong)}")
    return line


def unknown_option(inside: AgentLink, options: MountOptions) -> str | None:
    """The option that the kernel log blames, if it blames one."""
    done = inside.call("run", ["dmesg"], timeout=20.0)
    tail = done["stdout"].decode(errors="replace").splitlines()[-5:]
    for line in reversed(tail):
        if re.search(r"9p.*(Unknown|unknown|unsupported|not supported|Cache mode)", line):
            return f"{options}: {line.strip()}"
    return None


def mounted(inside: AgentLink, directory: str) -> str | None:
    """The line of /proc/mounts for `directory`, or None."""
    for source, where, kind, shown in inside.call("mounts"):
        if where == directory:
            return f"{source} {where} {kind} {shown}"
    return None


def unmount(inside: AgentLink, directory: str) -> None:
    """Unmount if mounted, after closing what the agent holds open. Raises InfrastructureError when it stays busy."""
    if mounted(inside, directory) is None:
        return
    inside.call("reset")
    for _ in range(20):
        if mounted(inside, directory) is None:
            return
        done = inside.call("run", ["umount", directory], timeout=30.0)
        if done["status"] != 0:
            inside.call("sleep", 0.1)
    said = done["stderr"].decode(errors="replace").strip()
    raise InfrastructureError(f"{directory} cannot be unmounted in the guest: {said}")
