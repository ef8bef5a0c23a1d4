"""``assay9 guest``: images and machines by hand."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import click

from guests.access.ssh import image_shell
from guests.access.terminal import attach
from guests.errors import InfrastructureError, UsageError
from guests.host import paths
from guests.host.activity import shown as shown_activity
from guests.host.files import remove_tree
from guests.host.processes import Running, clean_left_over, read_states
from guests.host.progress import Progress
from guests.images.recipe import load_recipe, recipe_names
from guests.images.store import ensure_image, find_image
from guests.machines.console import ConsoleLogin
from guests.machines.qemu import check as qemu_check
from guests.machines.qemu.accelerator import find_qemu
from guests.machines.qemu.machine import QemuMachine
from guests.machines.qemu.machine import check as check_machine
from guests.machines.qemu.private import NAME as QEMU11
from guests.machines.qemu.private import TITLE as QEMU11_TITLE
from guests.machines.qemu.private import directory as qemu_directory
from guests.machines.qemu.private import ensure_private_qemu, find_private_qemu
from guests.machines.qemu.private import manifest as qemu_manifest
from guests.machines.spec import Accelerator, MachineSpec, SecurityModel, Share
from guests.machines.uml.kernel import NAME as UML
from guests.machines.uml.kernel import TITLE as UML_TITLE
from guests.machines.uml.kernel import digest as uml_digest
from guests.machines.uml.kernel import ensure_kernel, find_kernel
from guests.machines.v86.machine import TAG as V86_TAG
from guests.machines.v86.machine import V86Machine, V86Spec
from guests.machines.v86.program import ensure_program
from guests.machines.v86.root import NAME as V86
from guests.machines.v86.root import TITLE as V86_TITLE
from guests.machines.v86.root import ensure_root, find_root
from guests.machines.v86.state import current_names
from guests.words import shown, unknown


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def guest() -> None:
    """Build guest images; start and enter machines.

    \b
    assay9 guest build debian11               build an image (a minute) unless the cache has it
    assay9 guest boot --share work=/tmp/work  start a machine and keep it running
    assay9 guest ssh                          a shell in it
    assay9 guest ssh uname -a                 one command in it
    assay9 guest console                      its serial console, when SSH does not answer
    assay9 guest clean                        stop it and remove outdated files

    Runs start their own machines; they never use one that was started here.
    """


@guest.command("list")
def list_() -> None:
    """List the guest images, built or not, and the running machines."""
    click.echo(f"{'IMAGE':<10} {'BUILT':<12} {'KERNEL':<24} {'MB':>5}  WHAT")
    for name in recipe_names():
        recipe = load_recipe(name)
        image = find_image(recipe)
        built, kernel, size = "no", "", ""
        if image is not None:
            manifest = image.manifest
            built, kernel = str(manifest["built_at"])[:10], str(manifest["kernel_release"])
            size = str(sum(file.stat().st_size for file in image.directory.iterdir()) // 1_000_000)
        click.echo(f"{name:<10} {built:<12} {kernel:<24} {size:>5}  {recipe.title}")
    uml, qemu = find_kernel(), find_private_qemu()
    built, release = (uml.manifest["built_at"][:10], uml.manifest["release"]) if uml else ("no", "")
    click.echo(f"{UML:<10} {built:<12} {release:<24} {'':>5}  {UML_TITLE}")
    made = qemu_manifest()["made_at"][:10] if qemu else "no"
    click.echo(f"{QEMU11:<10} {made:<12} {'':<24} {'':>5}  {QEMU11_TITLE}")
    i386 = find_root()
    made, release = (i386.manifest["made_at"][:10], i386.manifest["release"]) if i386 else ("no", "")
    click.echo(f"{V86:<10} {made:<12} {release:<24} {'':>5}  {V86_TITLE}")
    machines = [state for state in read_states() if state.alive]
    if machines:
        click.echo(f"\n{'MACHINE':<12} {'IMAGE':<10} {'PID':>8} {'SSH':>6}  OWNER")
    for state in machines:
        owner = "kept" if state.keep else f"run {state.owner_pid}" + ("" if state.owned else " (ended)")
        click.echo(f"{state.name:<12} {state.image:<10} {state.pid:>8} {state.ssh_port:>6}  {owner}")


@guest.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Build all of them.")
@click.option("--again", is_flag=True, help="Build even if the cache has it, for newer packages.")
@click.option("--package", "packages", multiple=True, help="One more Debian package; the result is a separate image.")
def build(names: tuple[str, ...], every: bool, again: bool, packages: tuple[str, ...]) -> None:
    """Build guest images NAME... (default: debian12) into the cache.

    Needs mmdebstrap, squashfs-tools and, for an ordinary user, uidmap; and a Debian mirror, which
    mmdebstrap finds by itself. Once built, an image is used without network.

    NAME may also be uml (a User-Mode Linux kernel, compiled here in a few minutes), qemu11 (QEMU 11.1 in its own root)
    or v86 (the emulator v86 from npm, and a 32-bit guest for it).
    """
    buildable = (*recipe_names(), *_FURTHER)
    for name in names:
        if name not in buildable:
            raise UsageError(unknown("guest image", name, buildable))
    if every and names:
        raise UsageError(f"--all builds {names[0]} as well: leave the names out")
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise UsageError(f"--package {shown(package)}: give the name of a Debian package")
    if packages and any(name in _FURTHER for name in names):
        raise UsageError(f"--package does not apply to {names[0]}, which is not an image of Debian packages")
    for name in buildable if every else names or ("debian12",):
        with shown_activity(f"building {name}") as say:
            for line in clean_left_over():
                say(line)
            if name in _FURTHER:
                made = _FURTHER[name](say, rebuild=again)
            else:
                made = ensure_image(name, packages, say, rebuild=again).directory
        click.echo(f"{name}: {made}")


@guest.command()
@click.argument("name", default="debian12")
@click.option("--share", "shares", multiple=True, metavar="TAG=DIR", help="Export DIR under the mount tag TAG.")
@click.option(
    "--security-model",
    type=click.Choice(get_args(SecurityModel)),
    show_default=True,
    default="passthrough" if os.geteuid() == 0 else "mapped-xattr",
)
@click.option("--qemu", default="qemu-system-x86_64", show_default=True, help="The QEMU to use.")
@click.option("--qemu-arg", "qemu_args", multiple=True, help="One more argument for QEMU.")
@click.option("--memory", type=click.IntRange(64, 1 << 20), default=512, show_default=True, help="MiB.")
@click.option("--accelerator", type=click.Choice(get_args(Accelerator)), default="auto", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port on 127.0.0.1 for SSH; default: a free one.")
def boot(
    name: str,
    shares: tuple[str, ...],
    security_model: SecurityModel,
    qemu: str,
    qemu_args: tuple[str, ...],
    memory: int,
    accelerator: Accelerator,
    port: int | None,
) -> None:
    """Start a machine with image NAME; it runs until `assay9 guest clean`.

    \b
    In the guest, a share is mounted with
      mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt

    NAME may be v86: a shell in a 32-bit guest under v86, on this terminal; the guest ends with the shell.
    """
    if name not in (*recipe_names(), V86):
        raise UsageError(unknown("guest image", name, (*recipe_names(), V86)))
    if name == V86:
        for given, option in ((shares, "--share"), (qemu_args, "--qemu-arg"), (port, "--port")):
            if given:
                raise UsageError(f"{option} does not apply to v86, which has one share of its own and no network")
        _boot_v86(memory)
        return
    found_shares = tuple(_share(text, security_model) for text in shares)
    if qemu == QEMU11:
        with shown_activity() as say:
            qemu = str(ensure_private_qemu(say))
    elif shutil.which(qemu) is None:
        raise UsageError(f"no QEMU at {shown(qemu)}: apt-get install qemu-system-x86, or name yours with --qemu PATH")
    needs = [*qemu_check.MACHINE, *(qemu_check.SHARES if shares else ())]
    qemu_check.require(str(find_qemu(qemu)), needs, qemu_args, memory)
    with _boot_directory() as run_dir:
        spec = MachineSpec(
            image=name,
            run_dir=run_dir,
            shares=found_shares,
            qemu=qemu,
            qemu_args=qemu_args,
            memory_mb=memory,
            accelerator=accelerator,
            ssh_port=port,
            keep=True,
        )
        try:
            check_machine(spec)
        except InfrastructureError as error:
            raise UsageError(str(error)) from None
        with shown_activity(f"starting a machine with {name}") as say:
            machine = QemuMachine(spec, say)
            machine.start()
    click.echo(f"{machine.name}: {name} under {machine.accelerator.upper()}, pid {machine.pid}")
    click.echo(f"  ssh      assay9 guest ssh -m {machine.name}      (127.0.0.1:{machine.ssh_port})")
    click.echo(f"  console  assay9 guest console -m {machine.name}  (log: {machine.logs['console']})")
    click.echo("  stop it  assay9 guest clean")
    machine.leave()


of_machine = click.option("-m", "--machine", "name", help="Which machine, when several run.")


@guest.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@of_machine
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str | None, command: tuple[str, ...]) -> None:
    """Open a shell in a running machine, or run COMMAND there (its exit status is passed on)."""
    state = _running(name)
    if command:
        shell = image_shell(state.ssh_port, Path(state.key), Path(state.known_host))
        try:
            result = shell.run(" ".join(command), timeout=3600.0)
        finally:
            shell.close()
        sys.stdout.write(result.stdout)
        sys.stderr.write(result.stderr)
        raise SystemExit(result.status)
    program = shutil.which("ssh")
    if program is None:
        raise InfrastructureError("a shell needs the program ssh", "apt-get install openssh-client, or give a COMMAND")
    hosts = paths.runtime_dir() / f"{state.name}.known"
    hosts.write_text(f"assay9 {Path(state.known_host).read_text(encoding='ascii')}", encoding="ascii")
    options = [f"UserKnownHostsFile={hosts}", "HostKeyAlias=assay9", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    argv = [program, "-F", "none", "-i", state.key, "-p", str(state.ssh_port)]
    argv += [word for option in options for word in ("-o", option)]
    os.execv(program, [*argv, "root@127.0.0.1"])


@guest.command()
@of_machine
@click.option("-c", "--command", help="Log in, run this one command, print its output.")
@click.option("--log", is_flag=True, help="Print the console's log and end.")
def console(name: str | None, command: str | None, log: bool) -> None:
    """Connect the terminal to a machine's serial console; Ctrl-] leaves it.

    Root is logged in there, so it works when SSH does not. It may be the machine of a running run.
    """
    state = _running(name)
    if log:
        click.echo(Path(state.console_log).read_text(encoding="utf-8", errors="replace"), nl=False)
        return
    if command is not None:
        login = ConsoleLogin(Path(state.console_socket))
        try:
            result = login.run(command, timeout=600.0)
        finally:
            login.close()
        sys.stdout.write(result.stdout)
        raise SystemExit(result.status)
    click.echo(f"console of {state.name}; Ctrl-] leaves it", err=True)
    attach(Path(state.console_socket))


@guest.command()
@click.option("--snapshots", is_flag=True, help="Remove all snapshots, too: the next start boots the guest again.")
@click.option("--all", "everything", is_flag=True, help="Remove all images, snapshots, kernels and QEMUs, too.")
def clean(snapshots: bool, everything: bool) -> None:
    """Stop kept and left-over machines; remove outdated images, snapshots, UML kernels and private QEMUs.

    Machines of runs that are still running are left alone.
    """
    done = clean_left_over(also_kept=True)
    current = {load_recipe(name).directory_name for name in recipe_names()}
    # Names that begin with a dot are locks, and entries that another run is making.
    for directory in sorted(paths.images_dir().glob("[!.]*")):
        if everything or directory.name not in current:
            done += _removed(directory)
    for directory in sorted(paths.snapshots_dir().glob("[!.]*")):
        if everything or snapshots or directory.name.rpartition("-")[0] not in current:
            done += _removed(directory)
    current_ones = {f"{UML}-{uml_digest()}", qemu_directory().name, *current_names(snapshots=not snapshots)}
    for name in (UML, QEMU11, V86):
        for directory in sorted(paths.cache_dir().glob(f"{name}-*")):
            if everything or directory.name not in current_ones:
                done += _removed(directory)
    for directory in paths.cache_dir().glob("boot-*"):
        done += _removed(directory)
    for file in paths.runtime_dir().glob("*.known"):
        file.unlink(missing_ok=True)
    for line in done:
        click.echo(line)
    if not done:
        click.echo("nothing to clean")


def _removed(path: Path) -> list[str]:
    remove_tree(path)
    return [f"removed {path}"]


def _running(name: str | None) -> Running:
    """The machine called ``name``, or the only one, or the only kept one."""
    alive = [state for state in read_states() if state.alive]
    if name is not None:
        named = [state for state in alive if state.name == name]
        if not named:
            raise UsageError(f"{unknown('machine', name, [state.name for state in alive])} (assay9 guest list)")
        return named[0]
    kept = [state for state in alive if state.keep]
    candidates = kept if len(kept) == 1 else alive
    if not candidates:
        raise InfrastructureError("no machine is running", "assay9 guest boot")
    if len(candidates) > 1:
        names = ", ".join(state.name for state in candidates)
        raise InfrastructureError(f"several machines are running: {names}", "choose one with -m")
    return candidates[0]


def _share(text: str, security_model: SecurityModel) -> Share:
    """`TAG=DIR` as a share. Raises UsageError."""
    tag, equals, path = text.partition("=")
    if not equals or not tag or not path:
        raise UsageError(f"--share {shown(text)}: give TAG=DIR")
    return Share(tag=tag, path=Path(path).absolute(), security_model=security_model)


def _uml_kernel(progress: Progress, rebuild: bool) -> Path:
    return ensure_kernel(progress, rebuild).directory


def _v86(progress: Progress, rebuild: bool) -> Path:
    ensure_program(progress, rebuild)
    return ensure_root(progress, rebuild).directory


def _boot_v86(memory_mb: int) -> None:
    """A guest that lives as long as its shell; commands come from standard input, one per line."""
    with _boot_directory() as run_dir:
        with contextlib.ExitStack() as running:
            with shown_activity("starting v86") as say:
                machine = running.enter_context(V86Machine(V86Spec(run_dir=run_dir, memory_mb=memory_mb), say))
                shell = machine.shell()
            click.echo(
                f"v86 {machine.version}, pid {machine.pid}; the share's mount tag is {V86_TAG}; "
                "type one command on each line; end of file stops the guest",
                err=True,
            )
            for line in sys.stdin:
                if line.strip():
                    result = shell.run(line.strip(), timeout=600.0)
                    sys.stdout.write(result.stdout)
                    sys.stderr.write(result.stderr)
                    sys.stdout.flush()
        remove_tree(run_dir)


@contextlib.contextmanager
def _boot_directory() -> Iterator[Path]:
    """A directory for a machine's logs. It is removed after a failed start, unless it has logs, which the message
    names; `assay9 guest clean` removes those.
    """
    run_dir = Path(tempfile.mkdtemp(prefix="boot-", dir=paths.cache_dir()))
    try:
        yield run_dir
    except BaseException as error:
        if not isinstance(error, InfrastructureError) or not any(run_dir.iterdir()):
            remove_tree(run_dir)
        raise


_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_FURTHER: dict[str, Callable[..., Path]] = {UML: _uml_kernel, QEMU11: ensure_private_qemu, V86: _v86}
"""Artefacts that are built here and are not guest images."""
