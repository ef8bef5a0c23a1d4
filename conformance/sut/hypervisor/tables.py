"""The tables of kind `hypervisor`: the commands of a machine, its console, the exported directory."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from conformance.case import MOUNTED
from conformance.sut.attach.tables import AttachOptions
from conformance.sut.layers import BELOW
from conformance.sut.options import RUNNING, Flag
from conformance.sut.spec import Layer, Target
from conformance.tables import Strict
from guests.words import unknown

PLACEHOLDERS = {
    "name": "the name of the virtual machine",
    "tag": "the mount tag of the share",
    "path": "the exported directory",
    "port": "a TCP port of the host that is free",
    "run": "a directory of the host for sockets, logs and pid files, which the suite makes and removes",
}
"""What commands may name in braces, beside the keys of [values]."""
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""No other brace is touched: shell and awk have their own."""


GUEST = ("address", "port")
"""What the guest's destination may name in braces: what `machine.address` prints, the free port."""


def check_placeholders(where: str, text: str, valid: Iterable[str]) -> None:
    """Raise ValueError for a placeholder that is none of the valid ones."""
    for name in _PLACEHOLDER.findall(text):
        if name not in valid:
            raise ValueError(f"{where}: {unknown('placeholder', f'{{{name}}}', [f'{{{one}}}' for one in valid])}")


class MachineTable(Strict):
    """[machine]: one shell command, run on the host, for each operation on the virtual machine."""

    name: str = Field(default="assay9", min_length=1)
    start: str = Field(min_length=1)
    """Returns once the machine is started, and leaves it running."""
    stop: str = Field(min_length=1)
    """Ends it at once, and removes what `start` made. A machine that does not run is not an error."""
    alive: str = Field(min_length=1)
    """Ends with status 0 while it runs."""
    reset: str = ""
    """As the reset button does; left out: `stop` and `start`."""
    save: str = ""
    """Saves the running machine as it is. Run once its guest has answered, before anything is mounted."""
    restore: str = ""
    """Brings the machine that runs back to what was saved. These two are given together; `restore` takes the place of
    `reset` then, and where it fails the machine is reset all the same."""
    pause: str = ""
    resume: str = ""
    """The machine answers nothing meanwhile; left out: a soak cannot pause it."""
    version: str = ""
    """Prints the version of the hypervisor."""
    pid: str = ""
    """Prints the id of the process that serves the share; a soak on this host watches its memory."""
    address: str = ""
    """Prints the guest's address, where it is not fixed."""
    log: str = ""
    """Prints the end of what the hypervisor said, for the report."""
    memory_mb: str = ""
    """Memory of the guest in MiB, where a soak must distinguish it from the hypervisor's own; may be a placeholder."""
    boot_seconds: float = Field(default=300.0, gt=0)
    """How long the guest may take until SSH answers."""

    @model_validator(mode="after")
    def _both(self) -> MachineTable:
        if bool(self.save) != bool(self.restore):
            raise ValueError("give save and restore together, or none of them")
        return self


class BackingTable(Strict):
    """[backing]: how the exported directory is made before the machine starts, and removed after its end."""

    make: tuple[str, ...] = ()
    """Commands, in order: a data set with its properties, a loopback mount with its options. Each may be repeated."""
    remove: tuple[str, ...] = ()
    """Commands, in order, all of which are run whatever comes of one."""
    bind: str = ""
    """Mounts the directory {dir} on itself with the flag {flag}, for the cases of the layer property."""
    small: str = ""
    """Mounts a new file system of the size {size}, e.g. 4m, on {dir}, writable for every user."""
    unmount: str = ""
    """Unmounts {dir} at once. These three are given together; without them such cases are undrivable."""
    dataset: str = ""
    """Mounts a new file system with the property {property} (quota=2m, setuid=off, devices=off) on {dir}, writable for
    every user; `unmount` removes it, too."""
    flags: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """What {flag} is where the host names a flag of Linux otherwise: { nodev = "nodevices" }; "" where it has none."""

    @model_validator(mode="after")
    def _three(self) -> BackingTable:
        if len({bool(self.bind), bool(self.small), bool(self.unmount)}) != 1:
            raise ValueError("give bind, small and unmount together, or none of them")
        if self.dataset and not self.unmount:
            raise ValueError("dataset needs bind, small and unmount as well")
        return self


class Step(Strict):
    """What to wait for on the console, and what to send then."""

    expect: str
    """A regular expression."""
    send: str


class ConsoleTable(Strict):
    """[console]: where the guest's console is, logged into the run's directory. One of the first five keys is given."""

    command: str = ""
    """A command of the host whose terminal is the console, e.g. `virsh console NAME`."""
    socket: str = ""
    """A unix socket of this host."""
    telnet: str = ""
    """HOST:PORT of a terminal server that this host reaches."""
    serial: str = ""
    """A serial device of this host; its speed is left as it is set."""
    ssh: str = ""
    """[USER@]HOST of a console server, whose login is the console."""
    steps: tuple[Step, ...] = ()
    """A dialogue after each start, e.g. a login that brings the guest's network up."""
    step_seconds: float = Field(default=120.0, gt=0)
    """How long each step may take."""

    @model_validator(mode="after")
    def _one(self) -> ConsoleTable:
        ways = [way for way in ("command", "socket", "telnet", "serial", "ssh") if getattr(self, way)]
        if len(ways) != 1:
            raise ValueError("give one of command, socket, telnet, serial, ssh")
        if self.telnet and not re.fullmatch(r"\S+:\d+", self.telnet):
            raise ValueError("telnet: give HOST:PORT")
        return self

    @field_validator("steps")
    @classmethod
    def _expressions(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        for step in steps:
            try:
                re.compile(step.expect)
            except re.error as error:
                raise ValueError(f"expect {step.expect!r} is not a regular expression: {error}") from None
        return steps


class ShareTable(Strict):
    """[share]: which guest mounts what, as for `--guest`, `--tag` and `--outside`."""

    guest: str = ""
    """[USER@]HOST[:PORT], or an alias of the SSH configuration. {address} is what `machine.address` prints, {port} the
    free port."""
    tag: str = "share0"
    outside: str = ""
    """PATH of this host or [USER@]HOST:PATH: the exported directory, and the host on which the commands run."""
    control_dir: str = ""
    ssh_config: str = ""
    implementation: str = ""
    """What serves the share, for every report."""


class HypervisorTable(Target):
    """A virtual machine by its commands, on any host."""

    layers: tuple[Layer, ...] = MOUNTED
    left_out: dict[Layer, str] = dict.fromkeys(BELOW, "its guest needs huge pages, and each step is a round trip")
    values: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Further placeholders. An empty one must be given on the command line: --value KEY=VALUE."""
    choices: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """For a key of [values]: a command of the host that prints the values that exist there, one a line."""
    share: ShareTable = ShareTable()
    machine: MachineTable
    backing: BackingTable = BackingTable()
    console: ConsoleTable | None = None

    @field_validator("values")
    @classmethod
    def _own(cls, values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for key in values:
            if key in PLACEHOLDERS or not key.isidentifier():
                raise ValueError(f"{key} cannot be the name of a placeholder")
        return values

    @model_validator(mode="after")
    def _known(self) -> HypervisorTable:
        valid = {*PLACEHOLDERS, *self.values}
        own = {
            "backing.bind": {"dir", "flag"},
            "backing.small": {"dir", "size"},
            "backing.dataset": {"dir", "property"},
            "backing.unmount": {"dir"},
        }
        for key in self.choices:
            if key not in self.values:
                raise ValueError(f"choices: {unknown('key of [values]', key, self.values)}")
        for where, text in self.commands():
            check_placeholders(where, text, valid | own.get(where, set()))
        check_placeholders("share.guest", self.share.guest, GUEST)
        return self

    def commands(self) -> Iterator[tuple[str, str]]:
        """Every text with placeholders, and its place in the TOML."""
        tables: list[tuple[str, Any]] = [("machine", self.machine), ("backing", self.backing)]
        tables += [("console", self.console)] if self.console is not None else []
        for where, table in tables:
            for key, value in table.model_dump(exclude={"steps"}).items():
                for text in value if isinstance(value, tuple) else (value,):
                    if isinstance(text, str):
                        yield f"{where}.{key}", text
        yield from ((f"choices.{key}", text) for key, text in self.choices.items())


class HypervisorTarget(HypervisorTable):
    """A virtual machine by its commands, on a host of the user's."""

    kind: Literal["hypervisor"]


class HypervisorOptions(AttachOptions):
    """Which guest and share, as for `attach`, and the values of placeholders."""

    value: Annotated[
        tuple[str, ...],
        Flag(
            "--value",
            "A placeholder of the target's commands, KEY=VALUE (repeatable).",
            "is not started by commands",
            "KEY=VALUE",
            RUNNING,
            chooses=True,
            soak=True,
        ),
    ] = ()


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its placeholders filled in."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def command_of(text: str, values: Mapping[str, str]) -> str:
    """The same for a shell command: each value is quoted as one word."""
    return filled(text, {key: shlex.quote(value) for key, value in values.items()})
