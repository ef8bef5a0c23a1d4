"""conformance.targets.spec: what a target's TOML may say, and how what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.features import FEATURES
from conformance.targets.spec import Known, Profile, Target, load, names, version_matches

GOOD = 'kind = "qemu"\ntitle = "a target"\n'
KNOWN = '[[profile.known]]\ncase = "MODE-001"\nreason = "r"\nlink = "l"\n'


def written(tmp_path: Path, text: str) -> Target:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load(str(path))


@pytest.mark.parametrize("name", names())
def test_every_target_here_loads(name: str) -> None:
    target = load(name)
    target.profile.overrides()
    assert target.name == name
    assert {lack.feature for lack in target.profile.lacks} <= set(FEATURES)
    assert set(target.profile.features) <= set(FEATURES)


def test_a_path_of_ones_own(tmp_path: Path) -> None:
    target = written(tmp_path, GOOD + KNOWN)
    assert (target.name, target.kind, target.profile.known[0].case) == ("mine", "qemu", "MODE-001")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "qemu"\ntitel = "x"\n', "title"),
        (GOOD + "[machine]\nimge = 'debian12'\n", "did you mean 'image'"),
        (GOOD + "[profile]\nknwn = []\n", "did you mean 'known'"),
        (GOOD + "[[profile.known]]\ncase = 'X-001'\nreson = 'r'\nlink = 'l'\n", "reason"),
        (GOOD + "[[profile.known]]\ncase = 'X-001'\nlink = 'l'\n", "reason"),
        (GOOD + "[[profile.known]]\ncase = 'X-001'\nreason = ''\nlink = 'l'\n", "reason"),
        (GOOD + "[machine]\nsecurity_model = 'mapped'\n", "security_model"),
        ("kind = 'hyperv'\ntitle = 'x'\n", "kind"),
        ("this is not TOML", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as e:
        written(tmp_path, text)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'qemu'"):
        load("qmeu")
    with pytest.raises(UsageError, match="local"):
        load("zzzzzz")


def test_a_rule_for_no_field_is_refused(tmp_path: Path) -> None:
    rule = "[[profile.rules]]\nfield = 'sise'\nrule = 'informational'\nreason = 'r'\n"
    with pytest.raises(UsageError, match="did you mean 'size'"):
        written(tmp_path, GOOD + rule).profile.overrides()


@pytest.mark.parametrize(
    ("version", "wanted", "matches"),
    [
        ("7.2.22", "", True),
        ("7.2.22", ">=7.2", True),
        ("7.2", ">=7.2.0", True),
        ("7.2.22", ">=7.2,<10", True),
        ("10.0.2", ">=7.2,<10", False),
        ("9.2.4", "<10", True),
        ("7.2.22", "<7.2.5", False),
        ("7.2.22", "==7.2.22", True),
        ("7.2.22", "==7.2", False),
        ("7.2.22", "> 7.2 , <= 7.2.22", True),
        ("7.10.0", ">=7.9", True),
        ("11.1.0 (Debian 1:11.1)", ">=11", True),
    ],
)
def test_versions(version: str, wanted: str, matches: bool) -> None:
    assert version_matches(version, wanted) is matches


@pytest.mark.parametrize("wanted", ["7.2", "~=7", ">=x", ">="])
def test_bad_versions_are_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="comparisons"):
        version_matches("7.2", wanted)


class TestKnown:
    """Which entry declares a failure of a case, its parameters, mount, version and guest."""

    def found(self, entry: Known, case: str = "X-001", parameters: str = "", mount: str = "cache=none",
              version: str = "7.2.22", guest: str = "debian12") -> bool:  # fmt: skip
        return Profile(known=[entry]).known_failure(case, parameters, mount, version, guest) is entry

    def entry(self, case: str = "X-001", **more: str) -> Known:
        return Known.model_validate({"case": case, "reason": "r", "link": "l", **more})

    def test_the_case_itself(self) -> None:
        assert self.found(self.entry())
        assert self.found(self.entry(), parameters="anything")
        assert not self.found(self.entry(), case="X-002")

    def test_its_parameters(self) -> None:
        assert self.found(self.entry("X-001[fifo]"), parameters="fifo")
        assert not self.found(self.entry("X-001[fifo]"), parameters="socket")
        assert self.found(self.entry("X-001[f*]"), parameters="fifo")

    def test_its_mount(self) -> None:
        assert self.found(self.entry(mount="cache=loose*"), mount="cache=loose,msize=8192")
        assert not self.found(self.entry(mount="cache=loose*"))

    def test_its_version_and_guest(self) -> None:
        assert not self.found(self.entry(versions=">=10"))
        assert self.found(self.entry(guest="debian1*"))
        assert not self.found(self.entry(guest="debian11"))

    def test_its_security_model(self) -> None:
        profile = Profile(known=[self.entry(model="mapped-*")])
        assert profile.known_failure("X-001", "", "cache=none", "7.2", "debian12", "mapped-file")
        assert not profile.known_failure("X-001", "", "cache=none", "7.2", "debian12", "passthrough")

    def test_the_first_that_matches(self) -> None:
        first, second = self.entry(mount="cache=mmap"), self.entry()
        profile = Profile(known=[first, second])
        assert profile.known_failure("X-001", "", "cache=none", "7.2") is second
        assert profile.known_failure("X-001", "", "cache=mmap", "7.2") is first
