"""NFS version 4 from the same directory of the host, for `--against nfs4`: nfs-ganesha, mounted by the guest's kernel.

It is what an administrator uses instead of virtio-9p. The server runs contained and listens on 127.0.0.1, which the
guest reaches through QEMU's user network.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from conformance.errors import InfrastructureError
from conformance.sut.parts.guest_mount import mounted, unmount
from conformance.sut.parts.process import ServerProcess, free_port
from conformance.transports.socket import connect_tcp
from conformance.vfs.deployment import MountFailed
from conformance.vfs.mount_options import MountOptions
from guests.agent.link import AgentLink

NAME = "nfs4"
PROGRAM = "ganesha.nfsd"
HOST = "10.0.2.2"
"""This host, as a guest of QEMU's user network sees it."""
GUEST = "10.0.2.15"
_START = 30.0
_CONFIGURATION = """\
NFS_CORE_PARAM {{
    Protocols = 4;
    Bind_addr = 127.0.0.1;
    NFS_Port = {port};
    Enable_NLM = false;
    Enable_RQUOTA = false;
}}
NFSv4 {{ Graceless = true; Only_Numeric_Owners = true; RecoveryRoot = {recovery}; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{
    Export_Id = 1;
    Path = {export};
    Pseudo = /export;
    Protocols = 4;
    Transports = TCP;
    Access_Type = RW;
    Squash = None;
    SecType = sys;
    Filesystem_Id = 9.9;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


class NfsServer:
    """nfs-ganesha on a directory of this host."""

    def __init__(self, directory: Path, export: Path, writable: list[Path]) -> None:
        self._directory, self._export, self._writable = directory, export, writable
        self._process: ServerProcess | None = None
        self.port = 0

    def start(self, launcher: tuple[str, ...]) -> None:
        """Start it in the mount namespace of the run. Raises InfrastructureError."""
        if shutil.which(PROGRAM) is None:
            raise InfrastructureError(f"{PROGRAM} is not installed", "make servers")
        self.port = free_port()
        recovery = self._directory / "nfs4-recovery"
        recovery.mkdir(exist_ok=True)
        configuration, log = self._directory / "nfs4.conf", self._directory / "nfs4.log"
        configuration.write_text(_CONFIGURATION.format(port=self.port, export=self._export, recovery=recovery))
        argv = [PROGRAM, "-F", "-L", str(log), "-f", str(configuration), "-p", str(self._directory / "nfs4.pid")]
        self._process = ServerProcess([*launcher, *argv], log, writable=[self._directory, *self._writable])
        self._process.wait_until(self._listens, _START)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            connect_tcp("127.0.0.1", self.port).close()
            return True
        return False

    @property
    def pid(self) -> int:
        """Its process id; 0 if it is not running."""
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        """End it; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()


def words(options: MountOptions, port: int) -> str:
    """The options of mount(2) that are closest to those of a 9P mount.

    cache=none asks the server for each attribute and name, and so does NFS without its attribute and name caches; its
    page cache stays. Source: nfs(5), actimeo and lookupcache.
    """
    none = ",actimeo=0,lookupcache=none" if options.cache == "none" else ""
    size = options.msize - options.msize % 4096
    return f"vers=4.2,proto=tcp,sec=sys,port={port},addr={HOST},clientaddr={GUEST},rsize={size},wsize={size}{none}"


def mount_nfs(inside: AgentLink, where: str, options: MountOptions, port: int) -> str:
    """Mount it in the guest, without the helper of nfs-common; returns its line of /proc/mounts. Raises MountFailed."""
    unmount(inside, where)
    inside.calls.rmtree(where)
    inside.calls.mkdir(where)
    argv = ["mount", "-i", "-t", "nfs4", "-o", words(options, port), f"{HOST}:/export", where]
    done = inside.calls_with(timeout=60.0).run(["sh", "-c", 'modprobe nfsv4 2>/dev/null; exec "$@"', "sh", *argv])
    line = mounted(inside, where)
    if done["status"] != 0 or line is None:
        said = done["stderr"].decode(errors="replace").strip()
        raise MountFailed(f"mounting NFS in the guest failed: {said}", "see nfs4.log of the run", str(options), said)
    return line
