"""The models of a run record, schema version 3. Records of older versions are read.

Version 1 had no selection, and counted an allowed difference as a failure; version 2 did not record which programs,
file system and profiles were tested, which machine ran a case, and what was left out.

Rule of this module: everything that a report shows is in these models, so that any report can be derived again years
later from the run directory alone. Strings are kept as people see them: the caller shortens them, and bytes that are
not UTF-8 (mostly in file names) are spelled \\xNN here, so a record is always valid JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from conformance.case import Case
from conformance.comparison import FORBID, Comparison
from conformance.vocabulary import DecidedBy, Severity, Standing, Verdict

SCHEMA_VERSION = 3


_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(value: object) -> object:
    """Text without lone surrogates: \\xNN for a byte that was not UTF-8, \\uNNNN for the others."""
    if not isinstance(value, str) or value.isascii() or not _SURROGATE.search(value):
        return value
    return _SURROGATE.sub(lambda m: _spelled(ord(m[0])), value)


def _spelled(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


Text = Annotated[str, BeforeValidator(printable)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# The small parts are plain slotted dataclasses; conformance.comparison says why.


@dataclass(slots=True)
class Call:
    """One system call of a case: where it was made, and its result."""

    __pydantic_config__ = FORBID

    index: int
    """From 1, in the order of the case."""
    vantage: str
    """inside, outside or control; cases that speak raw 9P name their link."""
    process: str
    op: str
    args: list[str]
    result: str
    errno: str | None = None
    """The name of the errno the call failed with."""
    seconds: float = 0.0
    control_result: str | None = None
    """What the same call gave on the guest's own native file system."""
    changes: bool = False
    """It may have changed files of the share."""
    compared: bool = False
    """What it changed was compared inside and outside directly afterwards."""
    messages: list[str] = field(default_factory=list)
    """The 9P messages that it caused, where the target gives a trace; with the errno that the server answered."""


@dataclass(slots=True)
class LogExcerpt:
    """Lines of a console or a device log while the case ran."""

    __pydantic_config__ = FORBID

    source: str
    text: str


class Program(_Model):
    """A program that took part, identified by the hash of the file that ran."""

    path: Text
    sha256: Text = ""
    version: Text = ""
    """All that `--version` says."""
    package: Text = ""
    """Name and version of the package that owns the file; empty where none does."""
    libraries: dict[Text, Text] = {}
    """Those that it loaded from elsewhere than the system's directories: path -> SHA-256."""


class Machine(_Model):
    """A machine, or a server without one, as it was started."""

    argv: list[Text] = []
    server_argv: list[Text] = []
    """Of the 9P server where that is another process."""


class Exported(_Model):
    """The file system that the exported directory lies on."""

    path: Text
    mount_point: Text = ""
    type: Text = ""
    """ext4, zfs, tmpfs, ..."""
    source: Text = ""
    """The device or dataset."""
    options: Text = ""
    properties: dict[Text, Text] = {}
    """Of a ZFS dataset."""


class Scope(_Model):
    """What the run selected, and what it left out."""

    layers: list[Text] = []
    layers_not_run: dict[Text, int] = {}
    """Layers that the target could have driven -> their number of case functions."""
    families: list[Text] = []
    """--family; empty for all."""
    expression: Text = ""
    """-k; empty for all."""
    mounts: list[Text] = []
    """--mount, or "all"; empty for the default set."""
    shard: Text = ""
    """`3/8`, the third of eight parts of the run; empty for the whole."""
    plan: Text = ""
    """Identifies the plan by which the shards were balanced."""
    mounts_in_matrix: int = 0
    """Mounts that --mounts all would have tried."""

    @property
    def partial(self) -> bool:
        """Whether --family, -k or --shard chose among the cases."""
        return bool(self.families or self.expression or self.shard)


class KnownFailure(_Model):
    """The profile's entry that declares the failure."""

    reason: Text
    link: Text = ""
    where: Text = ""
    """The place in the text behind the link."""
    component: Text = ""
    """The component whose profile declares it: qemu-device, linux-client, ..."""
    owner: Text = ""
    """Whose fault it is: device, server or client."""


class Demand(_Model):
    """The requirement of one case, with one set of parameters, on one mount."""

    id: Text
    """With parameters: OPEN-007[O_EXCL]. Unique only together with `mount`."""
    case_id: Text
    parameters: Text = ""
    layer: Text
    family: Text
    title: Text
    """The function's name."""
    requirement: Text
    source: Text
    severity: Severity
    """Of the case; in a result, of its gravest undeclared finding, where that is less."""
    mount: Text = ""
    """As requested."""
    covers: list[Text] = []
    """T-messages that have to cross."""

    @property
    def key(self) -> tuple[str, str]:
        """Unique in a run."""
        return self.id, self.mount


def demanded(case: Case, parameters: str, mount: str) -> dict[str, Any]:
    """The fields of `Demand` for a case."""
    return {
        "id": f"{case.id}[{parameters}]" if parameters else case.id,
        "case_id": case.id,
        "parameters": parameters,
        "layer": case.layer,
        "family": case.family,
        "title": case.function.__name__,
        "requirement": case.requirement,
        "source": case.source,
        "severity": case.severity,
        "mount": mount,
        "covers": list(case.covers),
    }


class Selected(Demand):
    """A selected case, recorded before the first case runs."""

    node_id: Text
    """As pytest names it; pytest-xdist identifies a case that killed its worker by this."""


class SeenFinding(_Model):
    """One wrong value."""

    code: Text
    """Stable: see conformance.checks.CODES."""
    text: Text
    values: dict[Text, Text] = {}
    """What the text says, by name: seen, expected, what, ..."""
    known: KnownFailure | None = None
    """The entry that declares this finding; a case is `known` when each has one."""


class CaseResult(Demand):
    """The requirement of a case, and what was seen."""

    mount_shown: Text = ""
    """As /proc/mounts says."""
    verdict: Verdict
    reason: Text = ""
    """One line: why this verdict."""
    infrastructure: bool = False
    """For `error`: the machine, SSH or a disk broke, not the suite."""
    ran: bool = True
    """False: selected, and nothing was recorded of it. Such an `error` is added when the run has ended."""
    details: Text = ""
    """A traceback or other lines worth keeping."""
    known: KnownFailure | None = None
    """The entry that declares the first finding that one declares."""
    findings: list[SeenFinding] = []
    """All that was wrong, in the order in which it was seen."""
    seconds: float = 0.0
    ended: datetime | None = None
    """When; `RunWriter.append` says so where the caller did not."""
    worker: Text = "main"
    machines: list[Text] = []
    """Names in `Environment.machines` of those that the case ran on."""
    tries: list[Text] = []
    """Of a case that was run several times: how each ended, in order (`run --repeat`, `--retry-failed`)."""
    guest_seconds: float = 0.0
    """Of `seconds`, what the guest itself spent executing the calls."""
    round_trips: int = 0
    """How often the suite waited for an answer of the guest, the control file system included."""
    decided_by: DecidedBy = "server"
    """Who decided: the server, the guest's kernel on what the server answered, or the guest's kernel alone."""
    unreached: int = 0
    """Calls that the case made on the control file system and not on the share: what ended it hides them."""
    calls: list[Call] = []
    comparisons: list[Comparison[str]] = []
    messages: list[Text] = []
    """Messages that crossed, in order (the first few hundred)."""
    message_counts: dict[Text, int] = {}
    covers_ok: bool | None = None
    """Whether all of `covers` crossed; None where the target gives no trace."""
    log_excerpts: list[LogExcerpt] = []


class Environment(_Model):
    """What ran where. Fields that do not apply to a target stay empty."""

    schema_version: int = SCHEMA_VERSION
    target: Text
    target_kind: Text = ""
    target_title: Text = ""
    target_version: Text = ""
    """Of the device or hypervisor under test, as it names itself."""
    argv: list[Text] = []
    """How it was started, whole."""
    machines: dict[Text, Machine] = {}
    """Every machine and server that was started, by the name that cases give it: `gw0`, `gw0 readonly`, `gw1 wire`."""
    programs: dict[Text, Program] = {}
    """By role: device (what serves the share), hypervisor (where that is another program)."""
    build_id: Text = ""
    """The change under test, as --build-id names it."""
    base: Text = ""
    """What that change is based on, as --base names it."""
    exported: Exported | None = None
    profiles: dict[Text, Text] = {}
    """The target's TOML and the profiles that it is composed of, by path -> SHA-256."""
    declared: int = 0
    """Known failures that these declare."""
    scope: Scope | None = None
    """None in records before schema version 3."""
    security_model: Text = ""
    guest_image: Text = ""
    guest_image_hash: Text = ""
    guest_kernel: Text = ""
    accelerator: Text = ""
    accelerator_reason: Text = ""
    """Why this one, e.g. that a probe on /dev/kvm did not boot."""
    access: Text = ""
    """How the guest was reached, e.g. SSH to root@127.0.0.1:2222."""
    mounts: dict[Text, Text] = {}
    """As asked for -> the line of /proc/mounts; gathered from the results."""
    other: dict[Text, Text] = {}
    """Further facts of this kind of target."""
    host_kernel: Text = ""
    host_distribution: Text = ""
    host_cpus: int = 0
    host_cpu_model: Text = ""
    host_python: Text = ""
    host_user: Text = ""
    """root or not: some cases need root."""
    assay9_version: Text = ""
    assay9_commit: Text = ""
    """Of the checkout; ends in -dirty where files differ from it. Empty for an installed package."""
    command: Text = ""
    """Quoted for a shell."""
    job_url: Text = ""
    """The page of the CI job, where its environment names it."""
    asked: dict[Text, Text] = {}
    """Options of the run that choose what is tested, e.g. another guest: only runs that agree in these are compared."""
    seed: int | None = None
    started: datetime
    ended: datetime | None = None
    left_out: int = 0
    """Cases that did not run because the guest's kernel decides them alone."""
    notes: list[Text] = []
    """Notes for the reader, e.g. a worker whose guest differs from the first one's."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, value: Any) -> Any:
        """Schema version 2 had the command lines of further workers only, in `other_argv`."""
        if isinstance(value, dict) and "other_argv" in value:
            value = dict(value)
            older = value.pop("other_argv")
            value.setdefault("machines", {name: {"argv": argv} for name, argv in older.items() if argv})
        return value


class Trouble(_Model):
    """The infrastructure failed outside any case."""

    at: datetime
    worker: Text
    text: Text


class Earlier(_Model):
    """How many of the cases that both runs selected judged the target in an earlier run."""

    run: Text
    """The name of its directory."""
    started: datetime
    compared: int
    """Cases that both runs selected."""
    judged_then: int
    judged_now: int
    no_longer: list[Text] = []
    """Cases that judged the target then and do not now."""
    known_otherwise: list[Text] = []
    """Cases that are known in both runs, now for another finding or by another entry."""


class Record(_Model):
    """A whole run."""

    schema_version: int = SCHEMA_VERSION
    environment: Environment
    counts: dict[Standing, int] = {}
    """Results by standing, every standing named."""
    selected: int | None = None
    """Cases that were to be run; None in records of schema version 1."""
    results: list[CaseResult] = []
    """One for each case that was selected, whether it ran or not."""
    troubles: list[Trouble] = []
    interrupted: bool = False
    """The run did not come to its own end: what is here is what had finished by then."""
    interrupted_by: Text = ""
    """The signal that ended it: SIGINT, SIGTERM or SIGHUP. Empty where something else did, e.g. kill -9."""
    earlier: Earlier | None = None
    """The newest run before this one on the same target; None where there is none."""
    damage: list[Text] = []
    """What could not be read of a run that was killed, e.g. a last line cut short."""
