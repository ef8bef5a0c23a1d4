"""A component's profile: features, unsupported features, known failures and comparison rules.

A known failure names findings by code and values, never by the text of a message. It covers findings, not cases: a case
is known only if every one of its findings is covered. Pure: no files, no clock.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import BaseModel, ConfigDict, Field, field_validator

from conformance.checks import CODES
from conformance.errors import Finding, UsageError
from conformance.features import FEATURES
from conformance.tables import word
from conformance.vfs.compare import RULES, Rule
from conformance.vocabulary import RuleKind
from guests.words import unknown
from protocol.constants import ERRNO_NAMES

Owner = Literal["device", "server", "client"]
"""Whose fault a known failure is: of the virtio-9p device, of a 9P server behind another device or a socket, or of the
guest's own client."""

VersionOf = Literal["target", "kernel", "hypervisor"]
"""What the versions of a component are compared with: the version of the target itself, of the guest's kernel, or of
the hypervisor that carries the device."""


class Strict(BaseModel):
    """A table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NotSupported(Strict):
    """A feature that the target declares as unsupported, and the errnos that its refusal must show."""

    feature: Annotated[str, word("feature", FEATURES)]
    errno: list[Annotated[str, word("errno", ERRNO_NAMES.values())]] = Field(min_length=1)
    reason: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Setting:
    """The circumstances of one case, to compare with the restrictions of a known failure."""

    mount: str = ""
    """The mount's options: "cache=none,msize=8192"; empty for raw frames and rings."""
    model: str = ""
    """QEMU's security model."""
    versions: Mapping[VersionOf, str] = field(default_factory=dict)


class Known(Strict):
    """A failure that is known. Once the case passes, it fails the run until the entry is removed.

    `case` is a case id, or id[parameters], where `*` matches within either, or a list of them. The entry covers a
    finding of such a case when the finding's code is one of `finding` and each of `values` matches the finding's value
    of that name. In codes and values `*` stands for any text; a list names alternatives.
    """

    case: str | list[str]
    finding: str | list[str]
    """Codes of `conformance.checks.CODES`: "errno", "field:mtime_ns", "field:*"."""
    values: dict[str, str | list[str]] = {}
    """{ seen = "ENOENT", what = "size of *" }."""
    reason: str = Field(min_length=1)
    link: str = Field(min_length=1)
    """URL of the report, commit, source or document that shows the defect."""
    where: str = ""
    """The place in the text behind the link: a function, a section."""
    versions: str = ""
    """Versions of the component, such as ">=7.2,<9" or ">=7.2,<8.2.9|>=9,<9.1.3"; empty for all."""
    kernel: str = ""
    """Versions of the guest's kernel with which a failure of another component shows."""
    mount: str = "*"
    """Mounts, as a pattern: "cache=loose*"."""
    model: str | list[str] = "*"
    """QEMU's security models, as patterns: "mapped-*", ["passthrough", "none"]."""
    sometimes: bool = False
    """It depends on a race: the case passes at times, and is then not `fixed`."""
    unless: str | list[str] = []
    """Components in whose company it does not show: a target that names one of them has no such entry."""
    owner: Owner | Literal[""] = ""
    """Whose fault it is; empty: the component's owner."""
    component: str = Field("", exclude=True)
    """The component that declares it; set where components are read."""
    version_of: VersionOf = Field("target", exclude=True)

    @field_validator("finding")
    @classmethod
    def _known_codes(cls, value: str | list[str]) -> str | list[str]:
        if value == []:
            raise ValueError("no finding code is named")
        for code in _listed(value):
            family = code.partition(":")[0]
            if family not in CODES:
                raise ValueError(unknown("finding code", family, CODES))
        return value

    @field_validator("versions", "kernel")
    @classmethod
    def _versions(cls, value: str) -> str:
        try:
            version_matches("0", value)
        except UsageError as e:
            raise ValueError(str(e)) from None
        return value

    @property
    def cases(self) -> list[str]:
        """What `case` names, one by one."""
        return _listed(self.case)

    @property
    def models(self) -> list[str]:
        """What `model` names, one by one."""
        return _listed(self.model)

    @property
    def codes(self) -> list[str]:
        """What `finding` names, one by one."""
        return _listed(self.finding)

    def names(self, case_id: str, parameters: str) -> bool:
        """Whether this entry is about that case with those parameters."""
        for entry in self.cases:
            wanted, _, inner = entry.partition("[")
            if not fnmatch.fnmatchcase(case_id, wanted):
                continue
            if not inner or fnmatch.fnmatchcase(parameters, inner.removesuffix("]")):
                return True
        return False

    def applies(self, setting: Setting) -> bool:
        """Whether this entry holds for that mount, security model and those versions."""
        return (
            fnmatch.fnmatchcase(setting.mount, self.mount)
            and any(fnmatch.fnmatchcase(setting.model, one) for one in self.models)
            and version_matches(setting.versions.get(self.version_of, ""), self.versions)
            and version_matches(setting.versions.get("kernel", ""), self.kernel)
        )

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is the one that is declared."""
        return any(matches(code, finding.code) for code in self.codes) and all(
            name in finding.values and any(matches(one, finding.values[name]) for one in _listed(wanted))
            for name, wanted in self.values.items()
        )


class Override(Strict):
    """A comparison rule that this target changes, with a reason."""

    field: Annotated[str, word("field", RULES)]
    rule: RuleKind
    reason: str = Field(min_length=1)


class Profile(Strict):
    """What a component declares about itself, or what all components of a target declare together."""

    features: list[Annotated[str, word("feature", FEATURES)]] = []
    dialects: list[Literal["9p2000.L", "9p2000.u"]] = ["9p2000.L", "9p2000.u"]
    """Versions of the protocol that the server speaks to a guest."""
    unsupported: list[NotSupported] = []
    known: list[Known] = []
    rules: list[Override] = []

    def overrides(self) -> dict[str, Rule]:
        """The comparison rules that this target changes."""
        return {o.field: Rule(o.rule, o.reason) for o in self.rules}

    def known_failures(self, case_id: str, parameters: str, setting: Setting) -> tuple[Known, ...]:
        """The entries that declare failures of this case in this setting."""
        return tuple(entry for entry in self.known if entry.names(case_id, parameters) and entry.applies(setting))

    def and_then(self, other: Profile) -> Profile:
        """Both profiles combined, this one's entries first; only the protocol versions of both remain."""
        return Profile(
            features=[*self.features, *other.features],
            dialects=[d for d in self.dialects if d in other.dialects],
            unsupported=[*self.unsupported, *other.unsupported],
            known=[*self.known, *other.known],
            rules=[*self.rules, *other.rules],
        )


def compose(profiles: Iterable[Profile], components: Iterable[str] = ()) -> Profile:
    """All of them together, in order, as the profile of a target that names these components."""
    whole, named = functools.reduce(Profile.and_then, profiles, Profile()), set(components)
    known = [entry for entry in whole.known if not named & set(_listed(entry.unless))]
    return whole.model_copy(update={"known": known})


def matches(pattern: str, text: str) -> bool:
    """Whether `text` matches `pattern`, where `*` stands for any text and every other character for itself."""
    return _compiled(pattern).fullmatch(text) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def version_matches(version: str, wanted: str) -> bool:
    """Whether `version` satisfies comparisons (PEP 440) such as ">=7.2,<9", or one of several, separated by `|`.

    Empty comparisons match all; an unknown version matches no others. Raises UsageError for a bad comparison.
    """
    try:
        alternatives = [SpecifierSet(one) for one in wanted.split("|")]
    except InvalidSpecifier:
        raise UsageError(f"versions = {wanted!r}: give comparisons such as '>=7.2,<9'") from None
    numbers = re.search(r"\d+(\.\d+)*", version)
    return not wanted or (numbers is not None and any(one.contains(numbers[0]) for one in alternatives))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
