"""From the tar that mmdebstrap makes to the root file system of a guest: what is dropped, changed and added.

It works on tar members instead of a directory, so it does not need root: owners, device nodes and modes are just data.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError
from guests.images.kernel import decompress_module, module_closure, module_name, parse_modules_dep
from guests.images.recipe import BOOT_MODULES, GUEST_FILES, MODULES

KERNEL_PREFIX = "kernel-files/"
"""Where fetch-kernel unpacks the kernel package: beside the tree, so that /lib stays what it is."""

DROPPED = (
    "boot/",
    "dev/",
    "usr/share/doc/",
    "usr/share/info/",
    "usr/share/locale/",
    "usr/share/man/",
    "var/cache/",
    "var/lib/apt/",
    "var/lib/dpkg/info/",
    "var/log/",
    "etc/motd",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_",
)

PASSWD = "alice:x:1001:1001:test user:/home/alice:/bin/sh\nbob:x:1002:1002:test user:/home/bob:/bin/sh\n"
GROUP = "alice:x:1001:\nbob:x:1002:\nshared:x:2000:alice,bob\n"
SHADOW = "alice:*:19000:0:99999:7:::\nbob:*:19000:0:99999:7:::\n"
"""Two ordinary users with a group each and one in common, for cases about permissions."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key material of one image, in OpenSSH's formats."""

    host_private: bytes
    host_public: bytes
    client_public: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """The files of the kernel package that are needed outside the root file system."""

    release: str
    vmlinuz: bytes
    boot_modules: list[tuple[str, bytes]]
    kept_modules: frozenset[str]
    busybox: bytes


def read_kernel(tar: tarfile.TarFile) -> KernelFiles:
    """Read kernel, modules for the initramfs and busybox out of mmdebstrap's tar."""
    members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

    def content(path: str) -> bytes:
        return read_member(tar, members[path].name)

    images = [path for path in members if path.startswith(f"{KERNEL_PREFIX}boot/vmlinuz-")]
    if not images:
        raise InfrastructureError("the kernel package has no /boot/vmlinuz", "correct the recipe's kernel_package")
    release = images[0].rpartition("/vmlinuz-")[2]
    base = f"{KERNEL_PREFIX}lib/modules/{release}/"
    dependencies = parse_modules_dep(content(f"{base}modules.dep").decode())
    missing = {"9p", "9pnet_virtio"} - {module_name(path) for path in dependencies}
    if missing:
        raise InfrastructureError(
            f"kernel {release} has no module {' '.join(sorted(missing))}",
            "choose another kernel_package: the cloud flavour has no 9P",
        )
    boot = [
        (f"{module_name(path)}.ko", decompress_module(path, content(base + path)))
        for path in module_closure(BOOT_MODULES, dependencies)
    ]
    busybox = next(path for path in ("usr/bin/busybox", "bin/busybox") if path in members)
    return KernelFiles(
        release=release,
        vmlinuz=content(images[0]),
        boot_modules=boot,
        kept_modules=frozenset(module_closure(MODULES, dependencies)),
        busybox=content(busybox),
    )


def package_versions(status: str) -> dict[str, str]:
    """Package -> version, from /var/lib/dpkg/status."""
    versions = {}
    for block in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        if "Package" in fields and "Version" in fields:
            versions[fields["Package"]] = fields["Version"]
    return versions


def read_member(tar: tarfile.TarFile, name: str) -> bytes:
    """Content of a regular file in mmdebstrap's tar, whose names begin with ``./``."""
    opened = tar.extractfile(name if name.startswith("./") else f"./{name}")
    assert opened is not None, name
    return opened.read()


def write_root(source: tarfile.TarFile, kernel: KernelFiles, keys: Keys, write: Callable[[bytes], int]) -> None:
    """Write the tar of the guest's root file system through ``write``."""
    with tarfile.open(mode="w|", fileobj=_Sink(write), format=tarfile.PAX_FORMAT) as target:
        lib = next(m for m in source.getmembers() if m.name.removeprefix("./") == "lib")
        modules_at = "usr/lib/modules" if lib.issym() else "lib/modules"
        for member in source.getmembers():
            name = _kept_name(member.name.removeprefix("./"), kernel, modules_at)
            if name is None:
                continue
            appended = {"etc/passwd": PASSWD, "etc/group": GROUP, "etc/shadow": SHADOW}.get(name)
            data = source.extractfile(member) if member.isfile() else None
            if appended is not None and data is not None:
                data = io.BytesIO(data.read() + appended.encode())
                member.size = len(data.getvalue())
            member.name = name
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            target.addfile(member, data)
        for added, data_bytes in _added(keys):
            target.addfile(added, io.BytesIO(data_bytes))


class _Sink(io.RawIOBase):
    """The writable object that tarfile's stream mode needs, over a function."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write

    def write(self, data: object) -> int:
        assert isinstance(data, bytes | bytearray | memoryview)
        self._write(bytes(data))
        return len(data)


def _kept_name(name: str, kernel: KernelFiles, modules_at: str) -> str | None:
    """Name in the guest of a member of mmdebstrap's tar; None when it is left out."""
    if name.startswith(KERNEL_PREFIX):
        inside = f"{KERNEL_PREFIX}lib/modules/{kernel.release}/"
        path = name.removeprefix(inside)
        if path == name or not (path in kernel.kept_modules or path.startswith("modules.")):
            return None
        return f"{modules_at}/{kernel.release}/{path}"
    if name.startswith(DROPPED):
        return None
    return name


def _added(keys: Keys) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    def directory(name: str, mode: int, owner: int = 0) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
        return info, b""

    def file(name: str, mode: int, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.mode, info.size = mode, len(data)
        return info, data

    yield directory("home/alice", 0o755, 1001)
    yield directory("home/bob", 0o755, 1002)
    yield directory("root/.ssh", 0o700)
    yield directory("dev", 0o755)
    yield directory("control", 0o1777)
    yield directory("var/cache", 0o755)
    yield directory("var/log", 0o755)
    yield file("root/.ssh/authorized_keys", 0o600, keys.client_public)
    yield file("etc/ssh/ssh_host_ed25519_key", 0o600, keys.host_private)
    yield file("etc/ssh/ssh_host_ed25519_key.pub", 0o644, keys.host_public)
    yield file("etc/ssh/sshd_config", 0o644, (GUEST_FILES / "sshd_config").read_bytes())
    yield file("etc/hostname", 0o644, b"assay9\n")
    yield file("etc/hosts", 0o644, b"127.0.0.1 localhost assay9\n")
    yield file("etc/fstab", 0o644, b"")
    yield file("etc/assay9-token", 0o600, keys.token)
    for name in ("init", "resident"):
        yield file(f"usr/sbin/assay9-{name}", 0o755, (GUEST_FILES / name).read_bytes())


def open_tar(path: Path) -> tarfile.TarFile:
    """Open mmdebstrap's tar; one line when it is damaged."""
    try:
        return tarfile.open(path)
    except tarfile.TarError as error:
        raise InfrastructureError(f"mmdebstrap wrote a damaged archive: {error}", "run the build again") from error
