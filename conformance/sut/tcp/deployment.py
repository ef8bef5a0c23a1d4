"""Targets of kind `tcp`: a stock Linux guest under QEMU mounts 9P servers of this host over TCP.

The guest reaches them through QEMU's user network; QEMU's own virtio-9p device has no part in it. The servers run
contained, in the mount namespace of the run, like QEMU does for targets of kind `qemu`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.sut.options import Load
from conformance.sut.parts.power import ServerOutages
from conformance.sut.qemu.guest import QemuGuest
from conformance.sut.qemu.tables import MachineOptions
from conformance.sut.servers.tables import DiodTable, GaneshaTable, P9ufsTable
from conformance.sut.tcp.servers import TcpServers
from conformance.sut.tcp.tables import TcpTarget
from conformance.vfs.deployment import Progress
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink
from guests.images.rootfs import GROUP, PASSWD
from guests.machines.spec import MachineSpec

USERS = (*range(1001, 1200), 1234, 4321, 31001, 31002, 31003)
"""As whom cases make calls (`uid=` of spawn)."""
_HOSTS = "hosts"
_ROOM_MB = 512
"""The file system of an export that must have one of its own; a sparse file."""


class TcpDeployment(QemuGuest):
    """One machine without any virtio-9p device; each of its shares is the export of a server."""

    def __init__(
        self,
        target: TcpTarget,
        run_dir: Path,
        progress: Progress,
        options: MachineOptions = MachineOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
    ) -> None:
        super().__init__(target, run_dir, progress, options, load)
        self._largest = target.server.msize_max
        self._server = TcpServers(target.server, self.base, self.exports, progress)
        self.outages = ServerOutages(self._server)
        self._serving, self.version = self._server, self._server.version
        self._own_users = not isinstance(target.server, P9ufsTable)  # for which every user is root
        self._looks_users_up = isinstance(target.server, DiodTable | GaneshaTable)
        if self._server.own_file_system:
            self._room_mb, self._with_room = max(self._room_mb, _ROOM_MB), tuple(self.exports)

    def _machine_spec(self) -> MachineSpec:
        return replace(super()._machine_spec(), reaches_host=True)

    def _mount(self, number: int, options: MountOptions) -> str:
        # A server may grant less than a mount requests: request only as much, so that /proc/mounts can be compared.
        return super()._mount(number, replace(options, msize=min(options.msize, self._largest)))

    def _served(self) -> set[str]:
        own = {"passthrough-ownership"} if self._own_users else set()
        return own | {"server-restart", "server-loss-seen"}

    def _agent_outside(self, *more: Path) -> AgentLink:
        link = super()._agent_outside(*more)
        if self._looks_users_up:
            _know_users(link, self.base)
        return link

    def _connect(self) -> None:
        self._server.start(self.host.launcher)
        self.version = self._server.version
        super()._connect()
        if self._looks_users_up:
            _know_guest(self.inside.calls.uname()[1], self.base)


def _know_users(outside: AgentLink, directory: Path) -> None:
    """Make the test users of our guests known in the run's mount namespace: diod and nfs-ganesha refuse users that they
    cannot look up, diod even with --allsquash. Raises InfrastructureError.
    """
    known = {line.split(":")[2] for line in PASSWD.splitlines()}
    others = "".join(f"user{uid}:x:{uid}:{uid}::/:/bin/false\n" for uid in USERS if str(uid) not in known)
    for name, more in (("passwd", PASSWD + others), ("group", GROUP), (_HOSTS, "")):
        copy = directory / name
        copy.write_text(Path("/etc", name).read_text(encoding="utf-8") + more, encoding="utf-8")
        done = outside.calls.run(["mount", "--bind", str(copy), f"/etc/{name}"])
        if done["status"] != 0:
            said = done["stderr"].decode(errors="replace").strip()
            raise InfrastructureError(f"the test users cannot be made known to the server: {said}")


def _know_guest(name: str, directory: Path) -> None:
    """Make the guest's name known, too: nfs-ganesha looks up whose lock it is (getaddrinfo in _9p_lock)."""
    text = Path("/etc", _HOSTS).read_text(encoding="utf-8")
    (directory / _HOSTS).write_text(f"{text}\n127.0.0.1 {name}\n", encoding="utf-8")
