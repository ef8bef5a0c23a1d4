"""Mounts a 9P share in a guest, and checks the table of mounts there."""

from __future__ import annotations

import contextlib
import re

from conformance.errors import InfrastructureError, Undrivable
from conformance.sut.parts.mount_methods import mount_command
from conformance.vfs.deployment import MountFailed
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink, CallHung, LinkLost

MOUNT_LIMIT = 30.0
"""Seconds that a mount may take; on a busy machine it takes one. Two of them, and two starts of a guest, are what a run
waits for its first verdict on a device that hangs mounts."""
_NOTE = "assay9: a share is to be mounted"


def mount_9p(inside: AgentLink, directory: str, options: MountOptions, source: str, transport: str) -> str:
    """Mount `source` (a mount tag or an address) at `directory`; returns its line of /proc/mounts.

    Raises Undrivable if the command cannot express the options, or if the guest's kernel does not know one or applies
    another value; MountFailed if mount fails or hangs.
    """
    system = inside.system
    argv = mount_command(options, system, transport, source, directory)
    prepared = [
        inside.start("rmtree", directory),  # never a mount point here: unmount() comes first
        inside.start("mkdir", directory),
    ]
    noted = inside.start("write_text", "/dev/kmsg", _NOTE)  # the kernel's log is about this mount from there on
    running = inside.start("run", argv, timeout=MOUNT_LIMIT)
    table = inside.start("mounts")
    for call in prepared:
        call()
    with contextlib.suppress(OSError):
        noted()
    try:
        done = running()
    except (CallHung, LinkLost) as error:
        raise _failed(source, options, f"mount hung: {error}") from error
    if done["status"] != 0:
        said = done["stderr"].decode(errors="replace").strip()
        if unknown := unknown_option(inside, options):
            raise Undrivable(f"the guest's kernel refuses {unknown} ({said})")
        raise _failed(source, options, said)
    line = _line(table(), directory)
    if line is None:
        raise InfrastructureError(f"{argv[0]} succeeded, but nothing is mounted at {directory}")
    wrong = options.contradicted_by(line.split()[3]) if system == "Linux" else []
    if wrong:
        unmount(inside, directory)
        raise Undrivable(f"/proc/mounts contradicts {options}: {'; '.join(wrong)}")
    return line


def _failed(source: str, options: MountOptions, why: str) -> MountFailed:
    return MountFailed(
        f"mounting {source} with {options} failed in the guest: {why}",
        "see the guest's console log; `assay9 guest ssh` to try by hand",
        str(options),
        why,
    )


def unknown_option(inside: AgentLink, options: MountOptions) -> str | None:
    """The option that the kernel's log has named since the last mount attempt, if any."""
    done = inside.calls_with(timeout=20.0).run(["dmesg"])
    tail = done["stdout"].decode(errors="replace").rpartition(_NOTE)[2].splitlines()[-5:]
    for line in reversed(tail):
        # "server returned an unknown version" is about the server
        if re.search(r"9p.*(Unknown|unknown|unsupported|not supported|Cache mode)", line) and "server" not in line:
            return f"{options}: {line.strip()}"
    return None


def mounted(inside: AgentLink, directory: str) -> str | None:
    """The line of /proc/mounts for `directory`, or None."""
    return _line(inside.calls.mounts(), directory)


def _line(table: list[list[str]], directory: str) -> str | None:
    for source, where, kind, shown in table:
        if where == directory:
            return f"{source} {where} {kind} {shown}"
    return None


def unmount(inside: AgentLink, directory: str) -> None:
    """Unmount if mounted, after closing what the agent holds open. Raises InfrastructureError if it stays busy or
    hangs.
    """
    if mounted(inside, directory) is None:
        return  # what a case has open stays open
    said = ""
    try:
        closed = inside.start("reset")
        for _ in range(20):
            running, table = inside.start("run", ["umount", directory]), inside.start("mounts")
            closed()
            done = running()
            if _line(table(), directory) is None:
                return
            said = done["stderr"].decode(errors="replace").strip()
            closed = inside.start("sleep", 0.1)
    except CallHung as error:
        raise InfrastructureError(f"unmounting {directory} hangs in the guest: {error}") from error
    raise InfrastructureError(f"{directory} cannot be unmounted in the guest: {said}")
