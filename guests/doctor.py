"""What this machine has for running guests and what is missing: one function per question, each with a remedy."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guests.build_tools import missing_build_packages, user_namespace_problem
from guests.errors import InfrastructureError, UsageError
from guests.host import paths
from guests.host.processes import read_states
from guests.images.recipe import load_recipe
from guests.images.store import BUILD_SPACE_MB, find_image
from guests.inventory import everything
from guests.machines.qemu.accelerator import find_qemu, kvm_works, qemu_version
from guests.machines.qemu.check import MACHINE, SHARES, require
from guests.machines.qemu.private import find_private_qemu
from guests.machines.qemu.private import manifest as qemu_manifest
from guests.machines.uml.kernel import find_kernel, missing_tools
from guests.machines.v86.program import VERSION as V86_VERSION
from guests.machines.v86.program import find_program as find_v86
from guests.machines.v86.program import missing_packages as missing_for_v86
from guests.machines.v86.root import find_root as find_v86_root

DEFAULT_IMAGE = "debian12"
DEFAULT_QEMU = "qemu-system-x86_64"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question about this machine."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """What to do about it when not ``ok``."""
    needed: bool = True
    """Whether a run cannot start without it."""


def probes(qemu: str = DEFAULT_QEMU, quick: bool = False, verify: bool = False) -> list[Finding]:
    """All questions. ``quick`` leaves out what takes seconds: booting a kernel under KVM.

    ``verify`` checks every byte of the cache.
    """
    asked: list[Callable[[], Finding]] = [
        host_system,
        lambda: qemu_program(qemu),
        lambda: program("qemu-img", "qemu-utils", "makes the disks that hold snapshots"),
        lambda: program("setpriv", "util-linux", "ends QEMU with the run"),
        build_tools,
        user_namespaces,
        disk_space,
        image_built,
        uml_kernel,
        private_qemu,
        v86,
        host_root,
        lambda: program("ssh", "openssh-client", "for `assay9 guest ssh`", needed=False),
        left_over,
        lambda: cache(verify),
    ]
    asked.append(lambda: kvm(qemu, quick))
    return [_answered(question) for question in asked]


def host_system() -> Finding:
    """Guests are x86-64 Linux; another host with TCG has not been tried."""
    system, machine = platform.system(), platform.machine()
    ok = system == "Linux" and machine == "x86_64"
    return Finding("host", ok, f"{system} {platform.release()} on {machine}", "use an x86-64 Linux machine")


def qemu_program(qemu: str) -> Finding:
    """The hypervisor exists, runs, and has what machines need."""
    said = qemu_version(qemu)
    try:
        require(str(find_qemu(qemu)), [*MACHINE, *SHARES])
    except UsageError as error:
        return Finding("QEMU", False, str(error), "build QEMU with that, or name another with --qemu PATH")
    return Finding("QEMU", True, said)


def program(name: str, package: str, what_for: str, needed: bool = True) -> Finding:
    """A program is on PATH."""
    where = shutil.which(name)
    return Finding(name, where is not None, where or what_for, f"apt-get install {package}", needed)


def build_tools() -> Finding:
    """The tools that build a guest image; only needed while the default image is not built."""
    missing = missing_build_packages()
    detail = "all there" if not missing else f"missing: {', '.join(missing)}"
    remedy = f"apt-get install {' '.join(missing)}"
    return Finding("image build tools", not missing, detail, remedy, needed=not _image_there())


def user_namespaces() -> Finding:
    """An ordinary user builds images in a user namespace."""
    if os.geteuid() == 0:
        return Finding("user namespaces", True, "not needed: you are root")
    problem = user_namespace_problem()
    if problem is None:
        return Finding("user namespaces", True, "usable, with subordinate uids")
    return Finding("user namespaces", False, problem[0], problem[1], needed=not _image_there())


def disk_space() -> Finding:
    """Space in the cache for an image and its snapshot."""
    where = paths.cache_dir()
    free = shutil.disk_usage(where).free // 1_000_000
    wanted = 500 if _image_there() else BUILD_SPACE_MB
    remedy = "free some space there, or set XDG_CACHE_HOME to a larger file system"
    return Finding("disk space", free >= wanted, f"{free} MB free in {where}, {wanted} needed", remedy)


def image_built() -> Finding:
    """The default image is in the cache."""
    there = _image_there()
    detail = f"{DEFAULT_IMAGE} is built" if there else f"{DEFAULT_IMAGE} is not built: the first run builds it"
    return Finding("guest image", there, detail, "assay9 guest build", needed=False)


def uml_kernel() -> Finding:
    """The kernel of the target reference-uml is in the cache, or can be compiled."""
    found = find_kernel()
    if found is not None:
        return Finding("UML kernel", True, f"Linux {found.manifest['release']} is built", needed=False)
    missing = missing_tools()
    needs = f", which needs {', '.join(missing)}" if missing else ""
    remedy = (f"apt-get install {' '.join(missing)}; " if missing else "") + "assay9 guest build uml"
    return Finding("UML kernel", False, f"not built: target reference-uml compiles it{needs}", remedy, needed=False)


def private_qemu() -> Finding:
    """The QEMU of the targets qemu-next and reference-qemu is in the cache."""
    if find_private_qemu() is not None:
        return Finding("QEMU 11", True, f"{qemu_manifest()['version']} in a root of its own", needed=False)
    detail = "not fetched: targets qemu-next and reference-qemu fetch it"
    return Finding("QEMU 11", False, detail, "assay9 guest build qemu11", needed=False)


def v86() -> Finding:
    """The targets v86 and reference-v86 have their files in the cache, and node can run them."""
    fetched = find_v86() is not None
    missing = missing_for_v86(fetched)
    install = f"apt-get install {' '.join(missing)}"
    if fetched and find_v86_root() is not None:
        detail = f"{V86_VERSION} and its guest are there" + (f", but not {', '.join(missing)}" if missing else "")
        return Finding("v86", not missing, detail, install, needed=False)
    needs = f", which needs {', '.join(missing)}" if missing else ""
    remedy = (f"{install}; " if missing else "") + "assay9 guest build v86"
    detail = f"not fetched: targets v86 and reference-v86 fetch it{needs}"
    return Finding("v86", False, detail, remedy, needed=False)


def host_root() -> Finding:
    """Some cases need root on the host; without it they are undrivable and the others run."""
    if os.geteuid() == 0:
        return Finding("host root", True, "you are root", needed=False)
    detail = "you are not root: cases that mount on the host or change owners there will be undrivable"
    sudo = shutil.which("sudo")
    if sudo is not None:
        tried = subprocess.run([sudo, "-n", "true"], capture_output=True, check=False, timeout=10)
        detail += "; sudo works without a password" if tried.returncode == 0 else "; sudo asks for a password"
    return Finding("host root", False, detail, "for those cases run as root", needed=False)


def left_over() -> Finding:
    """Machines of ended runs, and kept ones."""
    left = [state for state in read_states() if not state.owned and not (state.keep and state.alive)]
    kept = [state for state in read_states() if state.keep and state.alive]
    detail = f"{len(left)} left by ended runs, {len(kept)} kept on purpose"
    return Finding("machines", not left, detail, "the next run cleans them, or: assay9 guest clean", needed=False)


def kvm(qemu: str, quick: bool) -> Finding:
    """KVM really boots a kernel. Without it everything works under TCG, five times slower."""
    remedy = "nothing to do: TCG is used"
    device = Path("/dev/kvm")
    if not device.exists():
        return Finding("KVM", False, "no /dev/kvm", remedy, needed=False)
    if not os.access(device, os.R_OK | os.W_OK):
        remedy = "add yourself to the group kvm, or continue with TCG"
        return Finding("KVM", False, "no permission to use /dev/kvm", remedy, needed=False)
    image = find_image(load_recipe(DEFAULT_IMAGE))
    if quick or image is None:
        return Finding("KVM", True, "/dev/kvm is there; whether it boots a kernel was not tried", needed=False)
    works, seen = kvm_works(image, qemu, again=True)
    return Finding("KVM", works, seen, remedy, needed=False)


def cache(verify: bool) -> Finding:
    """The cache is intact. Damage is only a note: a run repairs what it needs."""
    found = list(everything())
    states = {cached.what: state for cached in found if (state := cached.state(whole=verify)) is not None}
    if states:
        damaged = "; ".join(f"{what}: {state}" for what, state in states.items())
        remedy = "nothing to do: the next run that needs it makes it again"
        return Finding("cache", False, f"damaged: {damaged}", remedy, needed=False)
    how = "every byte" if verify else "sizes and ends; --verify checks every byte"
    older = sum(not cached.recorded for cached in found)
    also = f"; {older} of an earlier version, whose contents the next use records" if older else ""
    detail = f"{len(found) - older} entries are intact ({how}){also}"
    return Finding("cache", True, detail, needed=False)


def _image_there() -> bool:
    return find_image(load_recipe(DEFAULT_IMAGE)) is not None


def _answered(question: Callable[[], Finding]) -> Finding:
    """The answer, or the error as an answer."""
    try:
        return question()
    except InfrastructureError as error:
        return Finding(error.message.split()[0], False, error.message, error.remedy)
