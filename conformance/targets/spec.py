"""What a target's TOML may say, checked before anything slow starts.

Each kind of target adds a table of its own ([machine] for a hypervisor with a guest, [server] for a server
reached by raw frames); the models here hold what all share. A misspelt key is refused with the nearest valid one.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.compare import RULES, Rule, RuleKind
from conformance.errors import UsageError

FOLDER = Path(__file__).parent


class Strict(BaseModel):
    """A table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lack(Strict):
    """A feature the target declares it lacks, and the errno names that the lack must show."""

    feature: str
    errno: list[str]
    reason: str = Field(min_length=1)


class Known(Strict):
    """A failure that is known: fails the run once it passes, until the entry is removed.

    `case` is a case id, or id[parameters]; `*` matches within either; a list of them where one defect
    fails several. `mount` restricts it to mounts (`cache=loose`, `cache=*`), `versions` to versions of the
    target such as ">=7.2,<9".
    """

    case: str | list[str]
    reason: str = Field(min_length=1)
    link: str = Field(min_length=1)
    mount: str = "*"
    versions: str = ""
    guest: str = "*"
    model: str | list[str] = "*"
    """QEMU's security model, as a pattern or several: mapped-*, passthrough."""
    symptom: str = ""
    """A regular expression that the failure's text must match: another failure of the same case is not known."""
    sometimes: bool = False
    """It depends on a race: the case passes at times, and is then no `fixed`."""

    @property
    def cases(self) -> list[str]:
        """What `case` names, one by one."""
        return [self.case] if isinstance(self.case, str) else self.case

    @property
    def models(self) -> list[str]:
        """What `model` names, one by one."""
        return [self.model] if isinstance(self.model, str) else self.model

    def names(self, case_id: str, parameters: str) -> bool:
        """Whether this entry is about that case with those parameters."""
        for entry in self.cases:
            wanted, _, inner = entry.partition("[")
            if not fnmatch.fnmatchcase(case_id, wanted):
                continue
            if not inner or fnmatch.fnmatchcase(parameters, inner.removesuffix("]")):
                return True
        return False


class Override(Strict):
    """A comparison rule that this target changes, with a reason."""

    field: str
    rule: RuleKind
    reason: str = Field(min_length=1)


class Profile(Strict):
    """What a target declares about itself."""

    features: list[str] = []
    dialects: list[Literal["9p2000.L", "9p2000.u"]] = ["9p2000.L", "9p2000.u"]
    """Versions of the protocol that the server speaks to a guest."""
    lacks: list[Lack] = []
    known: list[Known] = []
    rules: list[Override] = []

    def overrides(self) -> dict[str, Rule]:
        """The comparison rules that this target changes."""
        for o in self.rules:
            if o.field not in RULES:
                raise UsageError(f"rule for unknown field {o.field!r}{_nearest(o.field, RULES)}")
        return {o.field: Rule(o.rule, o.reason) for o in self.rules}

    def known_failure(self, case_id: str, parameters: str, mount: str, version: str, guest: str = "",
                      model: str = "") -> Known | None:  # fmt: skip
        """The entry that declares this case a known failure here, if one does."""
        for entry in self.known:
            if (
                entry.names(case_id, parameters)
                and fnmatch.fnmatchcase(mount, entry.mount)
                and fnmatch.fnmatchcase(guest, entry.guest)
                and any(fnmatch.fnmatchcase(model, one) for one in entry.models)
                and version_matches(version, entry.versions)
            ):
                return entry
        return None


class MachineTable(Strict):
    """[machine]: a hypervisor with a guest. `program` is the hypervisor; `image` the guest image's name."""

    program: str = "qemu-system-x86_64"
    image: str = "debian12"
    arguments: list[str] = []
    security_model: Literal["passthrough", "mapped-xattr", "mapped-file", "none"] = "passthrough"
    multidevs: Literal["remap", "forbid", "warn"] = "remap"
    memory_mb: int = 512


class Target(Strict):
    """One implementation under test as deployed."""

    name: str
    kind: Literal["qemu", "local", "server", "tcp", "uml", "v86"]
    title: str
    layers: list[str] = []
    machine: MachineTable = MachineTable()
    server: dict[str, Any] = {}
    """Validated by the kind's own model (conformance.servers.spec)."""
    profile: Profile = Profile()


def names() -> list[str]:
    """Every target that has a TOML here."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name_or_path: str) -> Target:
    """The target of that name, or of a TOML file's path. Raises UsageError, one line.

    `like = "qemu"` takes the profile of that target over: another version of it, as its entries' `versions` tell.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else FOLDER / f"{name_or_path}.toml"
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"unknown target {name_or_path!r}{_nearest(name_or_path, names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: not TOML: {e}") from None
    base = table.pop("like", None)
    try:
        target = Target(name=path.stem, **table)
        return target if base is None else _with_profile_of(load(str(base)).profile, target)
    except ValidationError as e:
        raise UsageError(f"{path}: {_first_error(e)}") from None
    except TypeError as e:
        raise UsageError(f"{path}: {e}") from None


def _with_profile_of(base: Profile, target: Target) -> Target:
    """The target with what `like = NAME` declares there added to its own profile, its own first."""
    own = target.profile
    merged = Profile(features=[*own.features, *base.features],
                     dialects=[d for d in own.dialects if d in base.dialects],
                     lacks=[*own.lacks, *base.lacks],
                     known=[*own.known, *base.known], rules=[*own.rules, *base.rules])  # fmt: skip
    return target.model_copy(update={"profile": merged})


def version_matches(version: str, wanted: str) -> bool:
    """Whether `version` satisfies comma-separated comparisons such as ">=7.2,<9"; empty matches all."""
    have = _numbers(version)
    for part in filter(None, wanted.replace(" ", "").split(",")):
        match = re.fullmatch(r"(>=|<=|==|<|>)([\d.]+)", part)
        if match is None:
            raise UsageError(f"versions = {wanted!r}: comparisons such as '>=7.2,<9' are wanted")
        width = max(len(have), len(_numbers(match[2])))
        a, b = ((*n, *([0] * width))[:width] for n in (have, _numbers(match[2])))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[match[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.search(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in found[0].split(".")) if found else ()


def _first_error(e: ValidationError) -> str:
    # a key that is misspelt is also one that is missing: name what was written
    error = next((error for error in e.errors() if error["type"] == "extra_forbidden"), e.errors()[0])
    where = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_nearest(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    return f"{where}: {error['msg']}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[Strict]] = {"machine": MachineTable, "profile": Profile, "lacks": Lack, "known": Known,
                                       "rules": Override}  # fmt: skip
    named = [str(p) for p in loc if isinstance(p, str)]
    return list((models[named[-1]] if named else Target).model_fields)


def _nearest(name: str, valid: Any) -> str:
    near = difflib.get_close_matches(name, list(valid), 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else f": one of {', '.join(sorted(valid))} is wanted"
