"""From a target's kind to the code that brings it up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.check import check_spec, check_target
from conformance.sut.layers import FLAGS, check_options
from conformance.sut.servers.make import check as check_server
from conformance.sut.servers.spec import parse
from conformance.sut.spec import Target
from conformance.sut.transport_choice import BELOW, chosen_link
from conformance.vfs.deployment import Deployment, Progress
from guests.images.recipe import recipe_names
from guests.machines.qemu import check as qemu_check
from guests.machines.qemu import private as private_qemu
from guests.machines.v86 import program as v86_program
from guests.words import unknown


def check(
    target: Target, options: dict[str, Any], layers: Sequence[str] = ("vfs",), flags: Mapping[str, str] = FLAGS
) -> None:
    """Refuse, before anything slow starts, what cannot be: a word that names nothing, a missing program.

    `flags` has the options as the command spells them.
    """
    check_target(target)
    check_options(target, layers, options, flags)
    if target.server and target.kind in ("qemu", "tcp", "uml", "v86") and os.geteuid() != 0:
        raise UsageError(f"target {target.name} needs root: a server under test runs contained (try sudo)")
    if target.kind in ("qemu", "tcp"):
        _check_qemu(target, options, layers)
    if target.kind == "v86":
        _check_v86(target, options)
    image = options.get("image")
    if image and image not in recipe_names():
        raise UsageError(unknown("guest image", image, recipe_names()))
    if target.kind == "server":
        spec = parse(target.server).for_user(options)
        check_spec(spec)
        check_server(spec)


def _check_qemu(target: Target, options: dict[str, Any], layers: Sequence[str]) -> None:
    """Refuse a QEMU that is not there or cannot do what the run needs; each lack by name."""
    from conformance.sut.qemu.deployment import access, find_program, security_model  # noqa: PLC0415

    security_model(options.get("security_model"), target.machine)
    access(options.get("access"))
    program = options.get("qemu") or target.machine.program
    if program == private_qemu.NAME:  # what we fetch ourselves is never missing, and has all that is needed
        return
    device = qemu_check.BACK_ENDS if target.server else qemu_check.SHARES
    link = chosen_link(target, options.get("link")) if any(layer in BELOW for layer in layers) else None
    needs: list[qemu_check.Need] = []
    if link == "guest-pci" or any(layer not in BELOW for layer in layers):
        needs += [*qemu_check.MACHINE, *(device if target.kind == "qemu" else ())]
    if link in ("qtest", "qtest-legacy"):
        needs += [*qemu_check.QTEST, *device]
    path = find_program(program)
    if not needs:
        return
    try:
        qemu_check.require(
            path,
            list(dict.fromkeys(needs)),
            [*target.machine.arguments, *options.get("qemu_args", ())],
            max(target.machine.memory_mb, options.get("memory_mb", 0)),
        )
    except UsageError as error:
        if options.get("qemu") or options.get("qemu_args"):
            raise
        raise InfrastructureError(str(error)) from None


def _check_v86(target: Target, options: dict[str, Any]) -> None:
    if "packages" in options:
        raise UsageError(
            f"target {target.name} cannot be soaked: too slow under v86, and no room for workloads; "
            "take one with QEMU or User-Mode Linux"
        )
    v86_program.require_host()


def deployment(target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> Deployment:
    """The deployment of that target, not yet started."""
    if target.kind == "qemu" and target.server:
        from conformance.sut.qemu.vhost_user import VhostQemuDeployment  # noqa: PLC0415

        return VhostQemuDeployment(target, run_dir, progress, options)
    if target.kind == "qemu":
        from conformance.sut.qemu.deployment import QemuDeployment  # noqa: PLC0415

        return QemuDeployment(target, run_dir, progress, options)
    if target.kind == "tcp":
        from conformance.sut.qemu.tcp import TcpDeployment  # noqa: PLC0415

        return TcpDeployment(target, run_dir, progress, options)
    if target.kind == "uml":
        from conformance.sut.uml.deployment import UmlDeployment  # noqa: PLC0415

        return UmlDeployment(target, run_dir, progress, options)
    if target.kind == "v86":
        from conformance.sut.v86.deployment import V86Deployment  # noqa: PLC0415

        return V86Deployment(target, run_dir, progress, options)
    if target.kind == "local":
        from conformance.sut.local.deployment import LocalDeployment  # noqa: PLC0415

        return LocalDeployment(target, run_dir, progress, options)
    raise UsageError(f"target {target.name} is of kind {target.kind}, which has no file system to mount")
