"""Kind `hypervisor`: a virtual machine that commands start, on this host or another over SSH; any hypervisor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.attach.attachment import Attachment, attachment
from conformance.sut.attach.facts import near_path
from conformance.sut.hypervisor.machine import said
from conformance.sut.hypervisor.tables import (
    GUEST,
    HypervisorOptions,
    HypervisorTable,
    HypervisorTarget,
    check_placeholders,
    command_of,
)
from conformance.sut.kind import Asked, Capability, Kind, Transports, Use
from conformance.sut.registry import register
from guests.agent.hosts import Host, reach
from guests.words import did_you_mean, shown, unknown

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.sut.hypervisor.deployment import HypervisorDeployment
    from conformance.vfs.deployment import Deployment, Progress


class Hypervisor(Kind[HypervisorTarget, HypervisorOptions]):
    """See the module."""

    name = "hypervisor"
    title = "a virtual machine that commands of its TOML start, on this host or another over SSH; any hypervisor"
    model, options = HypervisorTarget, HypervisorOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"guest", "soak", "pause", "power-cut"})

    def unused(self, target: HypervisorTarget, use: Use) -> Iterator[tuple[str, str]]:
        yield "mounted", f"target {target.name} starts its guest, which has nothing mounted"
        yield "allow", f"the suite starts the machine of target {target.name}, and may do anything to it"
        yield "process", "its machine.pid says which process that is"

    def check(self, asked: Asked[HypervisorTarget, HypervisorOptions]) -> None:
        """See Kind: the programs of the commands exist, and their host is reachable."""
        values = values_of(asked)
        host = reach(attached(asked).outside.host, attached(asked).ssh_config)
        try:
            check_programs(asked.target, values, host)
            check_choices(asked.target, values, host)
            check_files(asked.target, values, host)
        finally:
            host.close()

    def transports(self, target: HypervisorTarget) -> Transports:
        return {"guest-pci": "virtqueues"}

    def one_at_a_time(self, asked: Asked[HypervisorTarget, HypervisorOptions]) -> str:
        return f"target {asked.target.name} has one machine"

    def deployment(
        self, asked: Asked[HypervisorTarget, HypervisorOptions], run_dir: Path, progress: Progress
    ) -> Deployment:
        return _deployment(asked, run_dir, progress, cases=asked.load is None)

    def server(
        self, asked: Asked[HypervisorTarget, HypervisorOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.attach.guest_pci import AttachedDevice  # noqa: PLC0415 - see conformance.sut.kind

        return AttachedDevice(lambda: _deployment(asked, directory, progress, cases=False))


def _deployment(
    asked: Asked[HypervisorTarget, HypervisorOptions], run_dir: Path, progress: Progress, *, cases: bool
) -> HypervisorDeployment:
    from conformance.sut.hypervisor.deployment import HypervisorDeployment  # noqa: PLC0415 - see sut.kind

    return HypervisorDeployment(
        asked.target, attached(asked), guest_of(asked), values_of(asked), run_dir, progress, cases=cases
    )


def attached(asked: Asked[HypervisorTarget, HypervisorOptions]) -> Attachment:
    """Which guest and share, from the TOML and the command line. Raises UsageError."""
    table, options = asked.target.share, asked.options
    return attachment(
        # a placeholder is not a host name yet
        guest=re.sub(r"\{\w+\}", "1", guest_of(asked)),
        outside=options.outside or table.outside,
        tag=options.tag or table.tag,
        allow=("remount",),
        control=options.control_dir or table.control_dir,
        ssh_config=options.ssh_config or table.ssh_config,
        implementation=table.implementation,
    )


def guest_of(asked: Asked[HypervisorTarget, HypervisorOptions]) -> str:
    """The guest's destination, in which {address} and {port} may stand. Raises UsageError."""
    try:
        check_placeholders("--guest", asked.options.guest, GUEST)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return asked.options.guest or asked.target.share.guest


def values_of(asked: Asked[HypervisorTarget, HypervisorOptions]) -> dict[str, str]:
    """The placeholders and their values, except those that the deployment finds. Raises UsageError."""
    own = dict(asked.target.values)
    for text in asked.options.value:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--value {shown(text)}: give KEY=VALUE")
        if key not in own:
            raise UsageError(f"--value {shown(text)}: {unknown('placeholder', key, own)}")
        own[key] = value
    return valued(asked.target, attached(asked), own)


def valued(target: HypervisorTable, where: Attachment, own: Mapping[str, str]) -> dict[str, str]:
    """The placeholders of a target and their values, except those that the deployment finds. Raises UsageError."""
    for key, value in own.items():
        if not value:
            raise UsageError(f"target {target.name} needs a value: --value {key}=..., or {key} in its [values]")
    return {**own, "name": target.machine.name, "tag": where.tag, "path": where.outside.path}


def check_programs(target: HypervisorTarget, values: Mapping[str, str], host: Host) -> None:
    """Refuse commands whose first word is no program on their host: a misspelt word, or the wrong host.

    Raises UsageError.
    """
    first: dict[str, str] = {}
    for where, text in target.commands():
        if where in _MUST and (found := _WORD.match(command_of(text, values))):
            first.setdefault(found[1], where)
    done = host.run("for w in " + " ".join(first) + "; do command -v $w > /dev/null || echo $w; done")
    if missing := done.stdout.split():
        there = host.run("echo $PATH | tr : '\\n' | while read d; do ls $d; done").stdout.split()
        near = did_you_mean(missing[0], there)
        raise UsageError(f"{first[missing[0]]}: {host.where} has no program {shown(missing[0])}{near}")


def check_choices(target: HypervisorTable, values: Mapping[str, str], host: Host) -> None:
    """Refuse a value that the host does not have: a misspelt domain, zone or number of a machine.

    Raises UsageError, or InfrastructureError if the host cannot list its values.
    """
    for key, command in target.choices.items():
        text = command_of(command, values)
        done = host.run(text)
        if not done.ok:
            raise InfrastructureError(
                f"choices.{key} failed on {host.where} with status {done.status}: {said(done)}", f"try by hand: {text}"
            )
        exist = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        if values[key] not in exist:
            raise UsageError(f"--value {key}: {unknown(key, values[key], exist)} ({host.where})")


def check_files(target: HypervisorTarget, values: Mapping[str, str], host: Host) -> None:
    """Refuse a path that is none of the machine's host, where the user must give it: what is there before the machine.

    Raises UsageError.
    """
    for key, own in target.values.items():
        path = values[key]
        if not own and path.startswith("/") and not host.run(["test", "-e", path]).ok:
            raise UsageError(f"--value {key}: {host.where} has no {shown(path)}{near_path(host, path)}")


_MUST = ("machine.start", "machine.stop", "machine.alive", "machine.version", "backing.make")
_WORD = re.compile(r"\s*([\w./+-]+)(?=\s|$)")


register(Hypervisor())
