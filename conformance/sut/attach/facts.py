"""What a guest and a host can do, queried before the first case by one command on each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conformance.catalogue import index
from conformance.features import FEATURES
from guests.agent.hosts import PYTHONS, Host
from guests.agent.shell_channel import expressed
from guests.errors import InfrastructureError
from guests.words import nearest, shown

_ASK = """\
echo system=$(uname -s); echo release=$(uname -r); echo machine=$(uname -m); echo uid=$(id -u)
for p in {pythons}; do p=$(command -v $p) && {{ echo python=$p; break; }}; done
echo version=$($p -c 'import platform; print(platform.python_version())' 2>/dev/null)
for m in mount 9mount mount.9p mount_p9fs; do command -v $m >/dev/null 2>&1 && echo mount.$m=yes; done
grep -qw 9p /proc/filesystems 2>/dev/null && echo module=loaded
modinfo 9p >/dev/null 2>&1 && modinfo 9pnet_virtio >/dev/null 2>&1 && echo module.file=yes
[ -d /sys/kernel/tracing ] && echo tracefs=yes
echo tags=$(cat /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag 2>/dev/null | tr "\\0" " ")
[ -d {place} ] && echo directory=yes
[ -w {place} ] && echo writable=yes
echo filesystem=$(stat -f -c %T {place} 2>/dev/null || df -n {place} 2>/dev/null | sed 's/.*: *//')
echo boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.boottime 2>/dev/null)
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one machine; `place` is a directory on it for the run."""

    where: str
    place: str
    said: Mapping[str, str]

    @property
    def root(self) -> bool:
        return self.said.get("uid") == "0"

    @property
    def linux(self) -> bool:
        return self.said.get("system") == "Linux"

    @property
    def directory(self) -> bool:
        return "directory" in self.said

    @property
    def writable(self) -> bool:
        return "writable" in self.said

    @property
    def boot(self) -> str:
        """A value that changes at each boot; "" if the machine does not have one."""
        return self.said.get("boot", "")

    @property
    def tags(self) -> list[str]:
        """The mount tags of the virtio-9p devices that a guest's kernel has found."""
        return self.said.get("tags", "").split()

    @property
    def by_shell(self) -> str:
        """How many of the suite's calls work without Python; "" if there is Python."""
        if "version" in self.said:
            return ""
        made, all_of_them = expressed()
        return f"no Python (its shell makes {made} of {all_of_them} operations)"

    def line(self) -> str:
        """One line for the user."""
        get = self.said.get
        parts = [f"{get('system', 'unknown system')} {get('release', '')} {get('machine', '')}".rstrip()]
        parts.append(f"Python {get('version')}" if get("version") else self.by_shell)
        parts.append("root" if self.root else f"uid {get('uid', '?')}")
        return f"{self.where}: {', '.join(parts)}, {self.place} on {get('filesystem') or 'an unknown file system'}"

    def guest_line(self) -> str:
        """The same for a guest, with what it can mount."""
        if "module" in self.said:
            module = "9p in the kernel"
        else:
            module = "9p as a module" if "module.file" in self.said else "no 9p module"
        helpers = [name.removeprefix("mount.") for name in self.said if name.startswith("mount.")]
        traced = "tracefs" if "tracefs" in self.said else "no tracefs"
        return f"{self.line()}; {module}, {traced}, mount helpers: {', '.join(helpers) or 'none'}"


def ask(host: Host, place: str) -> Facts:
    """Query a machine. Raises InfrastructureError if it does not answer like a Unix system."""
    script = _ASK.format(pythons=" ".join(PYTHONS), place=shlex.quote(place))
    done = host.run(script)
    said = dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)
    if "system" not in said:
        raise InfrastructureError(
            f"{host.where} did not answer a command of the shell: {(done.stderr or done.stdout).strip()[:200]}",
            "its user needs /bin/sh, and a shell that prints nothing by itself",
        )
    return Facts(host.where, place, {key: value for key, value in said.items() if value})


def near_path(host: Host, path: str) -> str:
    """`: did you mean '/tmp'?` for a path that is not there, or nothing: the nearest name in its directory."""
    parent, _, name = path.rstrip("/").rpartition("/")
    near = nearest(name, host.run(["ls", "-A", parent or "/"]).stdout.splitlines())
    return "" if near is None else f": did you mean {shown(f'{parent}/{near}')}?"


def cost(features: Iterable[str], reasons: Mapping[str, str]) -> list[str]:
    """A line on each missing feature that cases of a mounted share need: how many cases, and why."""
    have, lines = set(features), []
    mounted = [entry for entry in index.index().values() if entry.layer in ("vfs", "property")]
    for feature, why in reasons.items():
        count = sum(1 for entry in mounted if feature in entry.needs)
        if feature not in have and count:
            lines.append(f"{count} cases cannot be run: they need {FEATURES[feature]} ({why})")
    return lines
