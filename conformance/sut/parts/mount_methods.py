"""The commands that mount a 9P share: mount(8) of Linux, mount(8) of FreeBSD with p9fs(4), and 9mount(1)."""

from __future__ import annotations

from conformance.errors import Undrivable
from conformance.vfs.mount_options import DEFAULT, MountOptions


def mount_command(options: MountOptions, system: str, transport: str, source: str, directory: str) -> list[str]:
    """The command that mounts `source` at `directory` in a guest with that `system` (uname -s).

    Raises Undrivable for options that the command cannot express.
    """
    if options.by == "9mount":
        return _by_9mount(options, transport, source, directory)
    if system == "FreeBSD":
        return _by_p9fs(options, source, directory)
    return ["mount", "-t", "9p", "-o", options.options(transport), source, directory]


def _by_p9fs(options: MountOptions, source: str, directory: str) -> list[str]:
    """Source: p9fs(4) of FreeBSD 15: `mount -t p9fs mysharename /mnt`; it has no options of its own."""
    asked = [name for name in ("cache", "msize", "access", "version", "posixacl") if _differs(options, name)]
    if asked:
        raise Undrivable(f"FreeBSD's p9fs has no option for {', '.join(asked)} (asked for: {options})")
    return ["mount", "-t", "p9fs", source, directory]


def _by_9mount(options: MountOptions, transport: str, source: str, directory: str) -> list[str]:
    """Source: 9mount(1): -u for 9P2000.u, else plain 9P2000; -v maps devices, -s attaches once, -m sets msize."""
    if options.version != "9p2000.u":
        raise Undrivable(f"9mount cannot ask for {options.version}: use version=9p2000.u")
    if options.access not in ("user", "any") or options.posixacl:
        raise Undrivable(f"9mount has no option for {options}")
    words = ["9mount", "-u", "-v", "-m", str(options.msize)]
    words += ["-s"] if options.access == "any" else []
    words += [] if options.cache == "none" else ["-c", options.cache]
    given = dict(part.partition("=")[::2] for part in transport.split(","))
    dial = f"virtio!{source}" if given.get("trans") == "virtio" else f"tcp!{source}!{given.get('port', '564')}"
    return [*words, dial, directory]


def _differs(options: MountOptions, name: str) -> bool:
    return bool(getattr(options, name) != getattr(DEFAULT, name))
