"""Servers that this host's release of Debian has not: fetched or built in a root of another release, in the cache.

Nothing is installed or upgraded. A program runs on its own C library, through its own loader. `make servers-more`
fetches all of them beforehand; a run fetches what it needs.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from conformance.errors import InfrastructureError
from guests.cache.cached import Cached
from guests.cache.contents import read_manifest
from guests.host import paths
from guests.host.progress import Progress, silent
from guests.images.debian import make_root, require_tools

SOURCES = Path(__file__).parent
_LOADER = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True)
class Fetched:
    """One or more programs of one Debian root."""

    name: str
    title: str
    suite: str
    packages: tuple[str, ...]
    programs: tuple[str, ...]
    """Below usr/bin of the root."""
    libraries: tuple[str, ...]
    """What they load, below usr/lib/x86_64-linux-gnu."""
    package: str
    """Whose version is theirs."""
    space_mb: int
    """The most that mmdebstrap unpacks."""
    source: str = ""
    """A folder beside this module that is built in the root by its `build.sh`."""
    options: tuple[str, ...] = ()
    """Further options of mmdebstrap."""

    @property
    def directory(self) -> Path:
        """Where the cache has it. The name covers every input that lies in this checkout."""
        seen = hashlib.sha256(repr(self).encode())
        if self.source:
            for path in sorted(file for file in (SOURCES / self.source).rglob("*") if file.is_file()):
                seen.update(path.read_bytes())
        return paths.cache_dir() / f"server-{self.name}-{seen.hexdigest()[:12]}"

    def cached(self) -> Cached:
        """As the cache knows it."""
        return Cached(self.title, self.directory, tuple(f"root/usr/bin/{program}" for program in self.programs))

    def ensure(self, progress: Progress = silent) -> None:
        """Have it in the cache. Raises InfrastructureError where it cannot be fetched or built."""
        self.cached().ensure(lambda temporary: self._make(temporary, progress), progress)

    def argv(self, program: str) -> list[str]:
        """The words that run `program`, to be followed by its arguments."""
        root = self.directory / "root"
        return [str(root / _LOADER), "--library-path", str(root / _LIBRARIES), str(root / "usr/bin" / program)]

    def version(self) -> str:
        """Of the package that the programs come from; "" before they are fetched."""
        if not self.cached().usable():
            return ""
        return str(read_manifest(self.directory, "make servers-more").get("version", ""))

    def _make(self, temporary: Path, progress: Progress) -> None:
        require_tools(f"fetching {self.title}")
        begun, archive = time.monotonic(), temporary / "root.tar"
        make_root(
            self.suite,
            self.packages,
            archive,
            name=self.name,
            progress=progress,
            space_mb=self.space_mb,
            variant="apt",
            options=[*self.options, *self._hooks()],
        )
        wanted = {f"usr/bin/{program}" for program in self.programs} | {_LOADER}
        wanted |= {f"{_LIBRARIES}/{library}" for library in self.libraries}
        with tarfile.open(archive) as tar:
            version = _package_version(tar, self.package)
            members = [m for m in tar.getmembers() if m.name.removeprefix("./") in wanted]
            tar.extractall(temporary / "root", members, filter="tar")
        if missing := [name for name in sorted(wanted) if not (temporary / "root" / name).exists()]:
            raise InfrastructureError(
                f"{self.title}: {', '.join(missing)} is not in Debian's {self.suite}",
                "the package has changed: see conformance/sut/servers/fetched.py",
            )
        archive.unlink()
        made = {"version": version, "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        (temporary / "manifest.json").write_text(json.dumps(made), encoding="utf-8")
        progress(f"{self.name}: {version} made in {time.monotonic() - begun:.0f} s")

    def _hooks(self) -> list[str]:
        if not self.source:
            return []
        return [
            f"--customize-hook=copy-in {SOURCES / self.source} /",
            f'--customize-hook=chroot "$1" sh /{self.source}/build.sh',
        ]


def _package_version(tar: tarfile.TarFile, package: str) -> str:
    """Of /var/lib/dpkg/status in a root's tar."""
    status = tar.extractfile("./var/lib/dpkg/status")
    blocks = status.read().decode().split("\n\n") if status is not None else []
    block = next((one for one in blocks if one.startswith(f"Package: {package}\n")), "")
    return next((line.split()[1] for line in block.splitlines() if line.startswith("Version: ")), "")


P9UFS = Fetched(
    name="p9ufs",
    title="p9ufs, the server of hugelgupf/p9 (Go), of Debian 13",
    suite="trixie",
    packages=("p9ufs",),
    programs=("p9ufs",),
    libraries=("libc.so.6",),
    package="p9ufs",
    space_mb=400,
)

CROSVM = Fetched(
    name="crosvm-p9",
    title="crosvm's 9P server, the crate p9 of Debian sid, behind a small program of ours",
    suite="sid",
    packages=("librust-p9-dev", "cargo", "rustc", "patch"),
    programs=("crosvm-p9", "crosvm-p9-released"),
    libraries=("libc.so.6", "libgcc_s.so.1"),
    package="librust-p9-dev",
    space_mb=2500,
    source="crosvm_p9",
    # A mirror that is a copy may be older than sid's Release file is valid; its signature is checked all the same.
    options=('--aptopt=Acquire::Check-Valid-Until "false"',),
)

ALL = (P9UFS, CROSVM)


def main() -> None:
    """`python -m conformance.sut.servers.fetched`: have all of them in the cache."""
    for one in ALL:
        one.ensure(lambda text: print(f"assay9: {text}", file=sys.stderr, flush=True))
        print(f"{one.name}: {one.version()}, {one.directory}")


if __name__ == "__main__":
    main()
