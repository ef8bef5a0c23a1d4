"""Every word of a target's TOML is checked against what exists, before anything starts.

`conformance.sut.spec` has refused what is no table of a target; here is what needs more than the file: the cases
that there are, the guests, the mounts that can be asked for, the placeholders of a command, the tables that mean
something for the target's kind. Each refusal is a UsageError of one line.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import string
from collections.abc import Collection, Mapping
from itertools import product

from pydantic import ValidationError

from conformance.case import CACHES
from conformance.catalogue.index import index
from conformance.errors import UsageError
from conformance.sut.layers import check_layers, left_out
from conformance.sut.qemu.security_models import MODELS
from conformance.sut.servers.spec import ServerSpec, parse
from conformance.sut.spec import BackendTable, MachineTable, Profile, Target
from conformance.tables import problem
from conformance.vfs.mount_options import ACCESS, VERSIONS, MountOptions
from guests.images.recipe import recipe_names
from guests.words import nearest, shown, unknown

COMMAND_PLACEHOLDERS = ("unix", "port", "export")
BACKEND_PLACEHOLDERS = ("export", "socket", "tag")

_MACHINE: Mapping[str, Collection[str]] = {
    "qemu": tuple(MachineTable.model_fields),
    "back end in qemu": ("program", "image", "arguments", "memory_mb"),
    "tcp": ("program", "image", "arguments", "memory_mb"),
    "uml": ("image", "memory_mb"),
    "v86": ("memory_mb",),
}
"""Kind of target -> the keys of [machine] that mean something for it."""


def check_target(target: Target) -> None:
    """Refuse a word of the target's TOML that names nothing. Raises UsageError."""
    try:
        _check_machine(target)
        _check_server(target)
        check_layers(target, target.layers)
        for layer in target.left_out:
            if layer not in left_out(target):
                raise UsageError(f"left_out.{layer}: a run without --layer has it, or cannot: leave the entry out")
        check_profile(target.profile)
    except UsageError as error:
        raise UsageError(f"target {target.name}: {error}") from None


def check_profile(profile: Profile) -> None:
    """Refuse entries about cases, mounts, guests or security models that there are not. Raises UsageError."""
    for entry in profile.known:
        where = f"component {entry.component}: " if entry.component else ""
        try:
            for pattern in entry.cases:
                _check_case(pattern)
            _check_mount(entry.mount, entry.cases[0])
            for model in entry.models:
                if not any(fnmatch.fnmatchcase(one, model) for one in MODELS):
                    raise UsageError(f"known failure of {entry.cases[0]}: {unknown('security model', model, MODELS)}")
        except UsageError as error:
            raise UsageError(f"{where}{error}") from None


def _check_case(pattern: str) -> None:
    """`pattern` as `Known.names` reads it: a case id or id[parameters], `*` within either."""
    wanted, bracket, inner = pattern.partition("[")
    known = index()
    named = [known[id] for id in known if fnmatch.fnmatchcase(id, wanted)]
    if not named:
        raise UsageError(f"known failure of an {unknown('case', wanted, known, 'assay9 cases')}")
    if not bracket:
        return
    if not inner.endswith("]"):
        raise UsageError(f"known failure of case {shown(pattern)}: its bracket is not closed")
    parameters = [parameter for entry in named for parameter in entry.parameters]
    if not any(fnmatch.fnmatchcase(parameter, inner[:-1]) for parameter in parameters):
        raise UsageError(f"known failure of case {wanted}: {unknown('parameter', inner[:-1], parameters)}")


def _check_mount(pattern: str, case: str) -> None:
    sizes = {131_072, 8192, *(int(number) for number in re.findall(r"msize=(\d+)", pattern))}
    grid = product(CACHES, sizes, (*ACCESS, "0"), VERSIONS, (False, True))
    if any(fnmatch.fnmatchcase(str(MountOptions(*options)), pattern) for options in grid):
        return
    words = [*(f.split("=")[0] for f in MountOptions.__slots__), *CACHES, *ACCESS, *VERSIONS]
    said = [word for word in re.findall(r"[A-Za-z0-9_.]+", pattern) if word not in words and not word.isdigit()]
    near = next((f": did you mean {near!r}?" for word in said if (near := nearest(word, words))), "")
    raise UsageError(f"known failure of {case}: no mount is called {shown(pattern)}{near or ', as --mount spells it'}")


def _check_machine(target: Target) -> None:
    kind = "back end in qemu" if target.kind == "qemu" and target.server else target.kind
    allowed = _MACHINE.get(kind, ())
    for key in target.machine.model_fields_set:
        if key not in allowed:
            why = f"only {', '.join(allowed)}" if allowed else "no [machine] at all"
            raise UsageError(
                f"machine.{key} does not apply to a target of kind {target.kind}"
                f"{' with a [server]' if kind != target.kind else ''}, which has {why}"
            )
    if "image" in allowed and target.machine.image not in recipe_names():
        raise UsageError(unknown("guest image", target.machine.image, recipe_names()))


def _check_server(target: Target) -> None:
    if target.kind == "local":
        if target.server:
            raise UsageError("a target of kind local has no [server]: leave the table out")
        return
    if target.kind == "server" and not target.server:
        raise UsageError("a target of kind server wants a [server] table")
    if target.kind == "tcp":
        spec = parse({"transport": "tcp", **target.server})
        if spec.program != "reference":
            raise UsageError(f"server.program: of kind tcp there is only 'reference', not {spec.program!r}")
    elif target.kind == "server":
        check_spec(parse(target.server))
    elif target.server or target.kind == "uml":
        check_backend(backend_table(target))


def backend_table(target: Target) -> BackendTable:
    """The [server] of a target whose devices are back ends. Raises UsageError."""
    try:
        table = BackendTable(**target.server)
    except ValidationError as error:
        raise UsageError(problem(error, BackendTable, "server")) from None
    if table.program != "reference" and not table.command:
        raise UsageError("[server] wants program = 'reference', or a command")
    return table


def check_backend(table: BackendTable) -> None:
    """Refuse a command with placeholders that there are not, or of no program. Raises UsageError."""
    for word in table.command:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(word) if field is not None]
        except ValueError as error:
            said = f"server.command: {shown(word)}: {error}; write {{{{ or }}}} for a brace"
            raise UsageError(said) from None
        for field in fields:
            _check_placeholder("server.command", field, BACKEND_PLACEHOLDERS)
    if table.command:
        _check_program("server.command", table.command[0])


def check_spec(spec: ServerSpec) -> None:
    """The same for a server that is reached by raw frames, its `aname` and its options. Raises UsageError."""
    if spec.program == "command":
        if not spec.arguments:
            raise UsageError(
                "server.arguments: program 'command' wants the command line, with {unix} or {port}, and {export}"
            )
        named = {name for word in spec.arguments for name in re.findall(r"\{(\w*)\}", word)}
        for name in sorted(named):
            _check_placeholder("server.arguments", name, COMMAND_PLACEHOLDERS)
        listens = "port" if spec.transport == "tcp" else "unix"
        if listens not in named:
            raise UsageError(
                f"server.arguments: transport {spec.transport} wants {{{listens}}} in the command line, "
                "where the server is to listen"
            )
        _check_program("server.arguments", spec.arguments[0])
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(spec.aname) if field is not None]
    except ValueError as error:
        raise UsageError(f"server.aname: {shown(spec.aname)}: {error}") from None
    for field in fields:
        _check_placeholder("server.aname", field, ("export",))
    for name in spec.options:
        if name not in OPTIONS.get(spec.program, ()):
            raise UsageError(f"server.options: {unknown('option', name, OPTIONS.get(spec.program, ()))}")


OPTIONS: Mapping[str, tuple[str, ...]] = {
    "ganesha": ("tcp_msize",),
    "qtest": ("qemu", "legacy", "security_model", "packed"),
    "guest-pci": ("qemu", "legacy", "security_model", "image"),
    "reference-in-qemu": ("qemu", "legacy", "packed"),
    "reference": ("inband", "legacy"),
    "vhost-user": ("inband", "legacy"),
}
"""Program of a [server] -> the keys of its `options`."""


def _check_placeholder(place: str, name: str, valid: tuple[str, ...]) -> None:
    if name not in valid:
        raise UsageError(f"{place}: {unknown('placeholder', f'{{{name}}}', [f'{{{one}}}' for one in valid])}")


def _check_program(place: str, program: str) -> None:
    if shutil.which(program) is None:
        raise UsageError(f"{place}: {shown(program)} is no program that can be run")
