"""The servers that the suite starts itself: reference, diod, nfs-ganesha, and any that a target gives by its command.

Rule of this module: argv and configuration, nothing about answers. Each listens on a unix socket or on 127.0.0.1;
nfs-ganesha, which listens on every address, gets its own network namespace. Raw frames reach them through `connect`;
for kind `tcp` a guest mounts them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Generic, Self, TypeVar

from conformance.errors import InfrastructureError
from conformance.sut.parts.backend_table import LINES
from conformance.sut.parts.process import ServerProcess, free_port
from conformance.sut.parts.scratch import Scratch
from conformance.sut.servers.fetched import CROSVM, P9UFS
from conformance.sut.servers.owners import OwnProcess
from conformance.sut.servers.tables import (
    CommandTable,
    CrosvmTable,
    DiodTable,
    GaneshaTable,
    P9ufsTable,
    ReferenceTable,
    StartedTable,
)
from conformance.transports.base import Link
from conformance.transports.socket import SocketLink, connect_tcp, connect_unix
from guests.host.progress import Progress, silent

_START = 20.0


S = TypeVar("S", bound=StartedTable)
T = TypeVar("T")


class Started(OwnProcess, Generic[S]):
    """Their base: one process, one directory for its files, one address.

    `exported` is the exported directory, by default one made for the server. A `launcher` is the prefix of a command
    that runs it in a run's mount namespace, which then limits what the server may see and write.
    """

    name = ""
    """What the server is called."""
    program = ""
    """What must be installed, empty where nothing must."""
    package = ""
    capabilities = SocketLink.capabilities
    own_network = False
    own_file_system = False
    """The export is a file system that is mounted in the server's mount namespace only."""
    can_export_read_only = False
    read_only = False
    """Whether it refuses every change."""

    def __init__(self, spec: S, run_dir: Path, progress: Progress = silent, exported: Path | None = None) -> None:
        self.spec: S = spec
        self.run_dir, self._progress = run_dir, progress
        self.exported = exported or run_dir / "export"
        """The exported directory as the server names it."""
        self.launcher: tuple[str, ...] = ()
        self.aname = spec.attached(self.exported)
        self._short: Scratch | None = None
        self.socket_path = ""
        self.port = 0
        self.process: ServerProcess | None = None

    @property
    def export(self) -> Path | None:
        if not self.own_file_system or self.launcher:
            return self.exported
        if self.process is None:
            return None
        return Path(f"/proc/{self.process.pid}/root{self.exported.resolve()}")

    def reading_only(self, directory: Path) -> Self | None:
        if not self.can_export_read_only:
            return None
        other = self._further(directory)
        other.read_only = True
        return other

    def _further(self, directory: Path) -> Self:
        """A further one of the same kind, whose files go into that directory."""
        return type(self)(self.spec, directory, self._progress)

    @classmethod
    def remedy(cls) -> str:
        """What to do when the program is missing."""
        return f"make servers, or apt-get install {cls.package}" if cls.package else "name a program that exists"

    def command(self) -> list[str]:
        """argv."""
        raise NotImplementedError

    def start(self) -> None:
        self.exported.mkdir(parents=True, exist_ok=True)
        os.chmod(self.run_dir, 0o755)
        if self.program and shutil.which(self.program) is None:
            raise InfrastructureError(f"{self.program} is not installed", self.remedy())
        if self._short is None:
            # A unix socket's path holds 107 bytes, and a run directory is easily longer.
            self._short = Scratch()
            self.socket_path = str(self._short.path / "s")
        for attempt in (1, 2, 3):
            Path(self.socket_path).unlink(missing_ok=True)
            self.port = 5640 if self.own_network else free_port()
            self.process = ServerProcess(
                [*self.launcher, *self.command()],
                self.run_dir / "server.log",
                writable=(self.run_dir, self._short.path),
                own_mounts=(self.exported,) if self.own_file_system and not self.launcher else (),
                own_network=self.own_network,
                ignore_sigpipe=self.spec.ignore_sigpipe,
            )
            try:
                self.process.wait_until(self._listens, _START)
                return
            except InfrastructureError:
                self.process.stop()
                if attempt == 3:
                    raise

    def _listens(self) -> bool:
        try:
            self._connect().close()
        except OSError:
            return False
        return True

    def _connect(self) -> Link:
        if self.spec.transport == "unix":
            return connect_unix(self.socket_path)
        return self.inside_network(lambda: connect_tcp("127.0.0.1", self.port))

    def inside_network(self, make: Callable[[], T]) -> T:
        """Call `make` where the server listens, see ServerProcess.inside_network."""
        assert self.process is not None
        return self.process.inside_network(make)

    def connect(self) -> Link:
        try:
            return self._connect()
        except OSError as error:
            raise InfrastructureError(f"{self.name} takes no connection: {error}") from None

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
        if self._short is not None:
            self._short.remove()
            self._short = None


class ReferenceServer(Started[ReferenceTable]):
    """The project's own server, started as by a user."""

    name = "reference"
    can_export_read_only = True

    def command(self) -> list[str]:
        lines = ["--lines", str(self.run_dir / LINES)] if self.spec.lines else []
        more = [*(["--readonly"] if self.read_only else []), *lines, *self.spec.arguments]
        return [sys.executable, "-m", "reference_server", "serve", str(self.exported), *self._listening(), *more]

    def _listening(self) -> list[str]:
        """The options that say where it listens."""
        return ["--unix", self.socket_path] if self.spec.transport == "unix" else ["--tcp", f"127.0.0.1:{self.port}"]

    def version(self) -> str:
        return version_of("assay9")


class DiodServer(Started[DiodTable]):
    """diod of the Debian package: no authentication, one export."""

    name, program, package = "diod", "diod", "diod"
    can_export_read_only = True

    def command(self) -> list[str]:
        config = Path("/dev/null")
        if self.read_only:  # no argument says so: diod.conf(5)
            config = self.run_dir / "diod.conf"
            config.write_text(f'exports = {{{{ path="{self.exported}", opts="ro" }}}}\n')
        where = self.socket_path if self.spec.transport == "unix" else f"127.0.0.1:{self.port}"
        return [
            "diod",
            "-f",
            "-n",
            "-c",
            str(config),
            *(("-U", "root", "-S") if self.spec.squash else ()),
            "-L",
            "stderr",
            *(() if self.read_only else ("-e", str(self.exported))),
            "-l",
            where,
            *self.spec.arguments,
        ]

    def version(self) -> str:
        return _package_version("diod")


class GaneshaServer(Started[GaneshaTable]):
    """nfs-ganesha's 9P front end over its VFS back end, with its own network and export."""

    name, program, package = "ganesha", "ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs"
    own_network = can_export_read_only = True
    # It opens files by handle, through the first mount of the file system that it finds: the read-only one of /.
    own_file_system = True

    def command(self) -> list[str]:
        config = self.run_dir / "ganesha.conf"
        recovery = self.run_dir / "recovery"
        recovery.mkdir(exist_ok=True)
        config.write_text(
            _GANESHA.format(
                port=self.port,
                msize=self.spec.tcp_msize,
                export=self.exported,
                recovery=recovery,
                access="RO" if self.read_only else "RW",
            )
        )
        return [
            "ganesha.nfsd",
            "-F",
            "-L",
            str(self.run_dir / "server.log"),
            "-f",
            str(config),
            "-p",
            str(self.run_dir / "ganesha.pid"),
            *self.spec.arguments,
        ]

    def version(self) -> str:
        return _package_version("nfs-ganesha")


class P9ufsServer(Started[P9ufsTable]):
    """p9ufs of Debian 13: hugelgupf/p9's server of a directory, in Go. Its unix socket cannot be chosen."""

    name = "p9ufs"

    def start(self) -> None:
        P9UFS.ensure(self._progress)
        super().start()

    def command(self) -> list[str]:
        return [*P9UFS.argv("p9ufs"), "-root", str(self.exported), *self.spec.arguments, f"127.0.0.1:{self.port}"]

    def version(self) -> str:
        return P9UFS.version()


class CrosvmServer(Started[CrosvmTable]):
    """crosvm's own server as a process; `released = true` omits Debian's patch."""

    name = "crosvm-p9"

    def start(self) -> None:
        CROSVM.ensure(self._progress)
        super().start()

    def command(self) -> list[str]:
        program = "crosvm-p9-released" if self.spec.released else "crosvm-p9"
        return [*CROSVM.argv(program), str(self.exported), self.socket_path, *self.spec.arguments]

    def version(self) -> str:
        return CROSVM.version()


class CommandServer(Started[CommandTable]):
    """Any server whose command is in a target's TOML: started, contained, watched and ended like the others."""

    def __init__(self, spec: CommandTable, run_dir: Path, progress: Progress = silent) -> None:
        super().__init__(spec, run_dir, progress)
        self.name = Path(spec.arguments[0]).name
        self.program = spec.arguments[0]

    def command(self) -> list[str]:
        where = {"unix": self.socket_path, "port": str(self.port), "export": str(self.exported)}
        return [re.sub(r"\{(unix|port|export)\}", lambda m: where[m[1]], word) for word in self.spec.arguments]


_GANESHA = """\
NFS_CORE_PARAM {{
    Protocols = 4, 9P;
    NFS_Port = 12049;
    MNT_Port = 12050;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}}
NFSv4 {{ Graceless = true; RecoveryRoot = {recovery}; }}
NFS_KRB5 {{ Active_krb5 = false; }}
_9P {{
    _9P_TCP_Port = {port};
    _9P_TCP_Msize = {msize};
}}
EXPORT {{
    Export_Id = 1;
    Path = {export};
    Pseudo = /export;
    Protocols = 4, 9P;
    Access_Type = {access};
    Squash = None;
    Filesystem_Id = 9.9;
    FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


def _package_version(package: str) -> str:
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except OSError:
        return ""
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    return found[0] if found else ""
