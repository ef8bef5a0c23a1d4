"""The host's part of the workload `kernel-build`: sources, the build outside, the guest's configuration."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, UsageError
from guests.host import paths
from guests.host.files import remove_tree, require_space
from guests.host.locks import exclusive
from guests.words import shown, unknown
from soak.host import Host
from soak.inside import elsewhere
from soak.inside.common import MARK, digest
from soak.inside.kernel_build import differing
from soak.workloads.kernel_reference import Reference, ToolChain, damage, keep, unpacked_root
from soak.workloads.kernel_source import NO_SOURCE, VERSION, archive_of, needed, pack, read_by_objects, sources, unpack
from soak.workloads.kind import Workload
from soak.workloads.packages import BUILD

OPTIONS: dict[str, Any] = {
    "fresh": 0,
    "source": "6.12",
    "config": "tinyconfig",
    "unit": "auto",
    "unpack_every": 10,
    "unit_seconds": 180,
    "jobs": 0,
    "check_seconds": 7200,
}
"""`source`: a version of Debian's linux-source, a tree, a tarball. `config`: a target of make or a file.
`unpack_every`: iterations between two unpacks (1: each). `unit_seconds`: what the calibration aims at.
`jobs`: of make, 0 for one a processor. `check_seconds`: how long the build outside may take."""

POOL = ("init/", "lib/")
"""Directories whose objects a unit of N objects is taken from: small ones, with few includes."""
POOL_SIZE = 40
"""Objects that `auto` chooses from: those whose compiler reads the fewest files, so that the tree is small too."""
CONFIGURED = ("scripts/", "arch/x86/tools/", "include/config/", "include/generated/autoconf.h", ".config")
"""What `auto` takes from the build outside: the programs that a kernel builds for its own build, and the configuration
as make reads it. All with their times, so that make finds them up to date. Compiling those programs and asking the
compiler what it can do took 8 of the first iteration's 19 minutes without KVM."""
UNITS = ("auto", "vmlinux", "objects:12")
DIRECTORIES = (
    "arch",
    "block",
    "certs",
    "crypto",
    "drivers",
    "fs",
    "init",
    "io_uring",
    "ipc",
    "kernel",
    "lib",
    "mm",
    "net",
    "rust",
    "samples",
    "security",
    "sound",
    "usr",
    "virt",
)
"""Directories of a kernel tree whose objects can be built."""
CONFIGS = ("tinyconfig", "defconfig", "allnoconfig", "allyesconfig", "allmodconfig", "x86_64_defconfig")
KEPT_DAYS = 14
"""A reference that no run has used for so long is removed."""
RULES = 5
"""Raised when what the reference directory holds changes its meaning."""


def unit_of(asked: str, accelerator: str) -> tuple[list[str], int]:
    """Targets of make for `--unit`, and how many objects of the pool (0: no pool, -1: by calibration).

    Raises UsageError. Without hardware acceleration a whole vmlinux takes 30 to 40 minutes, so auto calibrates there.
    """
    if asked == "vmlinux" or (asked == "auto" and accelerator == "kvm"):
        return ["vmlinux"], 0
    if asked == "auto":
        return list(POOL), -1
    if counted := re.fullmatch(r"objects:(\d+)", asked):
        if not int(counted[1]):
            raise UsageError("--unit objects:0: give at least one object")
        return list(POOL), int(counted[1])
    names = asked.replace(",", " ").split()
    if not names or any(n.startswith(("/", "-", ".")) or "=" in n or ".." in n.split("/") for n in names):
        raise UsageError(f"--unit {shown(asked)}: auto, vmlinux, objects:N, or directories of the tree as lib,kernel")
    for name in names:
        if name.partition("/")[0] not in DIRECTORIES:
            raise UsageError(f"--unit {shown(asked)}: {unknown('unit', name, (*UNITS, *DIRECTORIES))}")
    return [n.rstrip("/") + "/" for n in names], 0


def check(options: dict[str, Any]) -> None:
    """Check the options as far as possible before anything starts. Raises UsageError."""
    unit_of(str(options["unit"]), "")
    config, source = str(options["config"]), str(options["source"])
    if is_file(config):
        if not Path(config).expanduser().is_file():
            raise UsageError(
                f"kernel-build.config={config}: no such file: name a configuration, or a target of make "
                "such as tinyconfig"
            )
    elif not re.fullmatch(r"[a-z0-9_]+config", config):
        raise UsageError(
            f"kernel-build.config={config}: {unknown('target of make', config, CONFIGS)} "
            "A configuration is named by its path."
        )
    tree = Path(source).expanduser()
    if not VERSION.fullmatch(source) and not (tree.is_dir() or tree.is_file()):
        raise UsageError(NO_SOURCE.format(source=shown(source)))
    if options["unpack_every"] < 1:
        raise UsageError("kernel-build.unpack_every=0: 1 unpacks the tree before each build, 10 before every tenth")


def is_file(config: str) -> bool:
    """Whether the option `config` names a file, not a target of make."""
    return "/" in config or config.endswith(".config")


def _tools(host: Host, cache: Path) -> tuple[ToolChain, str]:
    """The guest's tool chain, for the host, and its identity."""
    image = host.deployment.suite_image()
    if image is None and host.deployment.guest_mb:
        raise InfrastructureError(
            "the tool chain of this guest is not known outside: the same objects cannot be built there",
            "take another --workload, or a target whose guest is one of the suite's images",
        )
    if image is None:
        try:
            said = subprocess.run(["gcc", "--version"], capture_output=True, check=False).stdout
        except OSError as e:
            raise InfrastructureError(f"cannot run gcc: {e.strerror}", "install gcc, or another --workload") from e
        return ToolChain(None, ""), hashlib.sha256(said).hexdigest()[:12]
    root = unpacked_root(image.root, image.digest, cache, host.note)
    return ToolChain(root, f"{host.inside_root}/linux"), image.digest


def _reference(host: Host) -> tuple[Reference, Path]:
    """The reference of this job (made when missing) and its archive of sources."""
    options = {**OPTIONS, **host.job.options}
    cache = paths.cache_dir() / "soak" / "kernel"
    cache.mkdir(parents=True, exist_ok=True)
    config, config_file = str(options["config"]), b""
    if is_file(config):
        try:
            config_file = Path(config).expanduser().read_bytes()
        except OSError as e:
            raise UsageError(f"kernel-build.config={config}: {e.strerror}") from e
    source = archive_of(str(options["source"]), cache / "sources", host.note)
    tools, identity = _tools(host, cache)
    inputs = [RULES, digest(str(source)), config, config_file.hex(), identity, tools.place]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    directory = cache / f"reference-{key[:16]}"
    reference = Reference(directory, tools, config, config_file)
    if not (directory / "sources.json").is_file():
        _forget(cache)
        require_space(cache, 100, "the build outside")
        remove_tree(directory)
        host.note(f"unpacking {source.name} outside, for the build to compare with")
        unpack(source, reference.tree)
        (directory / "sources.json").write_text(json.dumps(sources(reference.tree)))
        keep(directory, "sources.json")
    (directory / "used").touch()
    return reference, source


def _forget(cache: Path) -> None:
    for used in cache.glob("reference-*/used"):
        if time.time() - used.stat().st_mtime > KEPT_DAYS * 86400:
            remove_tree(used.parent)


def prepare(host: Host) -> dict[str, Any]:
    """Prepare the sources for the guest and the unit, and the build outside as far as they depend on it."""
    options = {**OPTIONS, **host.job.options}
    accelerator = str(host.deployment.environment().get("accelerator", ""))
    targets, count = unit_of(str(options["unit"]), accelerator)
    lock = paths.cache_dir() / "soak" / "kernel.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(lock, "the build outside", host.note, limit=7200):
        reference, _ = _reference(host)
        directory = reference.directory
        if why := damage(directory):
            host.note(f"the build outside in the cache is damaged ({why}): making it again")
            remove_tree(directory)
            reference, _ = _reference(host)
        all_sources: list[str] = json.loads((directory / "sources.json").read_text())
        more: dict[str, Any] = {"targets": targets}
        name = "whole"
        if targets != ["vmlinux"]:
            begun = time.monotonic()
            built = reference.build(targets)
            if (seconds := time.monotonic() - begun) > 5:
                host.note(f"built {' '.join(targets)} outside: {len(built['objects'])} objects in {seconds:.0f} s")
            name = ("auto-" if count < 0 else "needed-") + hashlib.sha256(" ".join(targets).encode()).hexdigest()[:8]
        archive, pool = directory / f"{name}.tar", directory / f"{name}-pool.json"
        if not archive.is_file():
            chosen = all_sources
            if name != "whole":
                costs = read_by_objects(reference.tree, sorted(p for p in built["objects"] if p.endswith(".o")))
                by_cost = sorted(costs, key=lambda path: (len(costs[path]), path))[: POOL_SIZE if count < 0 else None]
                pool.write_text(json.dumps({path: len(costs[path]) for path in by_cost}))
                keep(directory, pool.name)
                chosen = needed(reference.tree, all_sources, set(costs) - set(by_cost))
            pack(reference.tree, chosen, archive, reference.made_by_configuring(CONFIGURED) if count < 0 else [])
            keep(directory, archive.name, f"{name}.json")
            host.note(f"{len(chosen)} of {len(all_sources)} source files make the tree that is unpacked on the share")
        if count:
            more = _from_pool(json.loads(pool.read_text()), count)
        more["configured"] = count < 0
    host.keep("archive", str(archive))
    return {**more, **_place(host, archive, str(options["config"]))}


def _from_pool(pool: dict[str, int], count: int) -> dict[str, Any]:
    if count > len(pool):
        raise UsageError(f"--unit objects:{count}: {' and '.join(POOL)} have {len(pool)}; take vmlinux or directories")
    return {"targets": list(pool)[:count]} if count > 0 else {"targets": [], "pool": pool}


def _place(host: Host, archive: Path, config: str) -> dict[str, Any]:
    """Put the archive on the export, beside the job's directory, and the list of its files into the guest."""
    export, inside = host.outside.parent, host.inside_root.rpartition("/")[0]
    needed_mb, free_mb = 3 * archive.stat().st_size // 1_000_000 + 200, export.ask(elsewhere.room)["export.free_mb"]
    if free_mb < needed_mb:
        raise InfrastructureError(
            f"unpacking the kernel tree on the share needs {needed_mb} MB in {export}, {free_mb:.0f} MB are free",
            "free some space there, or take a smaller --unit",
        )
    seen = digest(str(archive))
    name = f"{MARK}-source-{seen[:12]}.tar"
    if (export.ask(elsewhere.content, name) or "")[: len(seen)] != seen:
        export.put(name, archive)
    more = {
        "archive": f"{inside}/{name}",
        "archive_digest": seen,
        "sources": host.push("sources.json", archive.with_suffix(".json").read_bytes()),
    }
    if is_file(config):
        more["config_file"] = host.push("config-of-user", Path(config).expanduser().read_bytes())
    return more


def answer(host: Host, question: dict[str, Any]) -> Any:
    """The result of building these targets outside; or which sources have changed, read outside."""
    if "sources" in question:
        expected = json.loads((Path(host.kept["archive"]).with_suffix(".json")).read_text())
        files = {path: seen for path, seen in expected.items() if not seen.startswith("symlink ")}
        return host.outside.below(question["sources"]).ask(differing, files)
    with exclusive(paths.cache_dir() / "soak" / "kernel.lock", "the build outside", host.note, limit=7200):
        reference, source = _reference(host)
        if question.get("afresh"):
            return _built_again(host, reference, source, question["targets"])
        return reference.build(question["targets"])


def _built_again(host: Host, reference: Reference, source: Path, targets: list[str]) -> dict[str, Any]:
    """The result of a build outside from freshly unpacked sources, before the share is blamed for a difference."""
    kept = reference.build(targets)
    host.note("objects differ: building outside once more, from sources unpacked again")
    reference.unpack_again(source, targets)
    seen = reference.build(targets)
    if seen["objects"] != kept["objects"]:
        host.note("the build outside in the cache was damaged: what it had made is made again now")
    return seen


def collect(host: Host, data: dict[str, Any]) -> dict[str, bytes]:
    """The reference's objects for those that differ, if its tree has them."""
    reference, _ = _reference(host)
    out = {}
    for path in data.get("files", ()):
        name = Path(path).name
        original = reference.tree / urllib.parse.unquote(name)
        if original.is_file():
            out[f"reference-{name}"] = original.read_bytes()
    return out


KERNEL_BUILD = Workload(
    "kernel-build",
    "a kernel is unpacked, configured and built on the share; every object is compared",
    "soak.inside.kernel_build",
    OPTIONS,
    programs=("gcc", "make", "bc", "flex", "bison", "tar"),
    packages=BUILD,
    memory_mb=1024,
    prepare=prepare,
    answer=answer,
    collect=collect,
    check=check,
    quiet_seconds=1800.0,
)
