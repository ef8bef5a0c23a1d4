"""Servers that this host's release of Debian does not have: fetched or built in a root of another release, in the
cache.

`make servers-more` fetches all of them beforehand; a run fetches what it needs. See `guests.images.part`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from guests.host import paths
from guests.host.progress import Progress
from guests.images.part import LIBRARIES, LOADER, Part

SOURCES = Path(__file__).parent


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
        """Its place in the cache. The name covers every input in this checkout."""
        seen = hashlib.sha256(repr(self).encode())
        if self.source:
            for path in sorted(file for file in (SOURCES / self.source).rglob("*") if file.is_file()):
                seen.update(path.read_bytes())
        return paths.cache_dir() / f"server-{self.name}-{seen.hexdigest()[:12]}"

    def ensure(self, progress: Progress) -> None:
        """Fetch or build it into the cache. Raises InfrastructureError if that fails."""
        self._part.ensure(lambda _, versions: versions[self.package], progress)

    def argv(self, program: str) -> list[str]:
        """The command that runs `program`, to be followed by its arguments."""
        root = self.directory / "root"
        return [str(root / LOADER), "--library-path", str(root / LIBRARIES), str(root / "usr/bin" / program)]

    def version(self) -> str:
        """The version of the programs' package; "" before they are fetched."""
        return str(self._part.manifest().get("version", "")) if self._part.cached().usable() else ""

    @property
    def _part(self) -> Part:
        programs = tuple(f"usr/bin/{program}" for program in self.programs)
        return Part(
            self.name,
            self.title,
            self.directory,
            tuple(f"root/{program}" for program in programs),
            self.suite,
            self.packages,
            (*programs, LOADER, *(f"{LIBRARIES}/{library}" for library in self.libraries)),
            self.space_mb,
            "make servers-more",
            (*self.options, *self._hooks()),
        )

    def _hooks(self) -> list[str]:
        if not self.source:
            return []
        return [
            f"--customize-hook=copy-in {SOURCES / self.source} /",
            f'--customize-hook=chroot "$1" sh /{self.source}/build.sh',
        ]


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
    title="crosvm's 9P server, the crate p9 of Debian sid, behind a small program of the suite",
    suite="sid",
    packages=("librust-p9-dev", "cargo", "rustc", "patch"),
    programs=("crosvm-p9", "crosvm-p9-released"),
    libraries=("libc.so.6", "libgcc_s.so.1"),
    package="librust-p9-dev",
    space_mb=2500,
    source="crosvm_p9",
    # A mirror may be older than sid's Release file allows; its signature is checked all the same.
    options=('--aptopt=Acquire::Check-Valid-Until "false"',),
)

ALL = (P9UFS, CROSVM)


def main() -> None:
    """`python -m conformance.sut.servers.fetched`: fetch or build all of them."""
    for one in ALL:
        one.ensure(lambda text: print(f"assay9: {text}", file=sys.stderr, flush=True))
        print(f"{one.name}: {one.version()}, {one.directory}")


if __name__ == "__main__":
    main()
