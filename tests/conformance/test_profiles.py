"""conformance.profiles: which entry covers which finding, composition, and how errors in a TOML file are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conformance.checks import CODES
from conformance.errors import Finding, UsageError
from conformance.profiles import load as profiles
from conformance.profiles.model import Known, Profile, Setting, compose, matches, version_matches
from conformance.sut.load import load

FOUND = Finding("size of 'f': 14, expected 10", "field:size", {"what": "size of 'f'", "seen": "14", "expected": "10"})


def entry(case: str | list[str] = "X-001", **more: Any) -> Known:
    declared = {"case": case, "reason": "r", "link": "https://example.org", "finding": "errno", **more}
    return Known.model_validate(declared)


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
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
        ("6.1.0-28-amd64", "<6.8", True),
        ("8.2.8", ">=7.2.4,<8.2.9|>=9,<9.1.3", True),
        ("9.1.2", ">=7.2.4,<8.2.9 | >=9,<9.1.3", True),
        ("8.2.9", ">=7.2.4,<8.2.9|>=9,<9.1.3", False),
        ("", "", True),
        ("", "<6.8", False),
    ],
)
def test_versions(version: str, wanted: str, expected: bool) -> None:
    assert version_matches(version, wanted) is expected


@pytest.mark.parametrize("wanted", ["7.2", "~=7", ">=x", ">=", ">=7..2", ">=7|8"])
def test_bad_versions_are_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="comparisons"):
        version_matches("7.2", wanted)
    with pytest.raises(ValidationError, match="comparisons"):
        entry(versions=wanted)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ENOENT", "ENOENT", True),
        ("ENO", "ENOENT", False),
        ("ENO*", "ENOENT", True),
        ("*", "", True),
        ("[1024, 32768]", "[1024, 32768]", True),
        ("b'a.c'", "b'abc'", False),
        ("size of *", "size of 'a\nb'", True),
    ],
)
def test_a_star_stands_for_any_text_and_all_else_for_itself(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


class TestApplies:
    """Which entry declares a failure of a case, its parameters, mount, security model and versions."""

    def found(self, known: Known, case: str = "X-001", parameters: str = "", **setting: Any) -> bool:
        profile = Profile(known=[known])
        return profile.known_failures(case, parameters, Setting(**{"mount": "cache=none", **setting})) == (known,)

    def test_the_case_itself(self) -> None:
        assert self.found(entry())
        assert self.found(entry(), parameters="anything")
        assert not self.found(entry(), case="X-002")
        assert self.found(entry(["X-003", "X-001"]))

    def test_its_parameters(self) -> None:
        assert self.found(entry("X-001[fifo]"), parameters="fifo")
        assert not self.found(entry("X-001[fifo]"), parameters="socket")
        assert self.found(entry("X-001[f*]"), parameters="fifo")

    def test_its_mount(self) -> None:
        assert self.found(entry(mount="cache=loose*"), mount="cache=loose,msize=8192")
        assert not self.found(entry(mount="cache=loose*"))

    def test_its_security_model(self) -> None:
        assert self.found(entry(model="mapped-*"), model="mapped-file")
        assert self.found(entry(model=["none", "mapped-*"]), model="mapped-file")
        assert not self.found(entry(model="mapped-*"), model="passthrough")

    def test_the_version_of_what_the_component_is(self) -> None:
        versions = {"target": "7.2.22", "kernel": "6.1.0-28-amd64", "hypervisor": "QEMU 11.1.0"}
        assert self.found(entry(versions="<8"), versions=versions)
        assert not self.found(entry(versions=">=8"), versions=versions)
        client = entry(versions=">=6").model_copy(update={"version_of": "kernel"})
        assert self.found(client, versions=versions)
        front = entry(versions=">=11").model_copy(update={"version_of": "hypervisor"})
        assert self.found(front, versions=versions)

    def test_the_guest_s_kernel_with_which_a_device_s_failure_shows(self) -> None:
        assert self.found(entry(kernel="<6.8"), versions={"kernel": "6.1.0"})
        assert not self.found(entry(kernel="<6.8"), versions={"kernel": "6.12.0"})
        assert not self.found(entry(kernel="<6.8"), versions={}), "a kernel that nobody knows"

    def test_all_that_apply(self) -> None:
        first, second, third = entry(mount="cache=mmap"), entry(), entry(reason="other")
        profile = Profile(known=[first, second, third])
        assert profile.known_failures("X-001", "", Setting("cache=none")) == (second, third)
        assert profile.known_failures("X-001", "", Setting("cache=mmap")) == (first, second, third)


class TestCovers:
    """An entry covers a finding by its code and the values that it names, never by its text."""

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            ({"finding": "field:size"}, True),
            ({"finding": "field:*"}, True),
            ({"finding": ["errno", "field:size"]}, True),
            ({"finding": "field"}, False),
            ({"finding": "value"}, False),
            ({"finding": "field:size", "values": {"seen": "14"}}, True),
            ({"finding": "field:size", "values": {"seen": "15"}}, False),
            ({"finding": "field:size", "values": {"seen": ["15", "14"], "what": "size of *"}}, True),
            ({"finding": "field:size", "values": {"seen": "14", "what": "size of 'g'"}}, False),
            ({"finding": "field:size", "values": {"inside": "*"}}, False),
        ],
        ids=str,
    )
    def test_by_code_and_values(self, more: dict[str, Any], expected: bool) -> None:
        assert entry(**more).covers(FOUND) is expected

    @pytest.mark.parametrize("code", ["filed:size", "", "size"])
    def test_a_code_that_is_none_is_refused(self, code: str) -> None:
        with pytest.raises(ValidationError, match="unknown finding code"):
            entry(finding=code)

    def test_every_code_can_be_named(self) -> None:
        assert entry(finding=list(CODES)).codes == list(CODES)


class TestComponents:
    """A target declares what its components declare, and names the component behind each declaration."""

    def test_every_component_here_loads_and_belongs_to_somebody(self) -> None:
        for name in profiles.names():
            component = profiles.component(name, Path("a.toml"))
            assert component.owner in ("device", "server", "client") and component.title
            assert {known.component for known in component.profile.known} <= {name}

    def test_a_target_has_what_its_components_declare(self) -> None:
        target = load("qemu")
        assert {known.component for known in target.profile.known} == {"qemu-device", "linux-client"}
        assert {known.owner for known in target.profile.known if known.component == "linux-client"} == {"client"}
        assert {known.version_of for known in target.profile.known if known.component == "linux-client"} == {"kernel"}
        assert load("qemu-next").profile == target.profile

    def test_one_s_own_target_names_components_and_adds_to_them(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(
            'kind = "qemu"\ntitle = "mine"\ncomponents = ["linux-client", "device.toml"]\n[[profile.known]]\n'
            'case = "MODE-001"\nfinding = "errno"\nreason = "r"\nlink = "https://example.org"\n'
        )
        (tmp_path / "device.toml").write_text(
            'title = "mine"\nowner = "device"\n'
            '[[profile.unsupported]]\nfeature = "xattr"\nerrno = ["EPERM"]\nreason = "r"\n'
        )
        profile = load(str(tmp_path / "mine.toml")).profile
        assert profile.unsupported[0].feature == "xattr" and profile.known[0].component == "mine"
        assert [known.component for known in profile.known[1:]] == ["linux-client"] * (len(profile.known) - 1)

    @pytest.mark.parametrize(
        ("components", "device", "said"),
        [
            ('["qemu-devcie"]', "", "unknown component 'qemu-devcie': did you mean 'qemu-device'"),
            (
                '["d.toml"]',
                'title = "x"\nowner = "client"\n[[profile.known]]\ncase = "OPEN-001"\nreason = "r"\n'
                'link = "l"\nfinding = "errno"\nunless = "v86-devise"',
                "unknown component 'v86-devise': did you mean 'v86-device'?",
            ),
            ('["none.toml"]', "", "none.toml: a component is"),
            ('["d.toml"]', "title", "d.toml: not TOML"),
            ('["d.toml"]', 'title = "x"\nowner = "me"', "d.toml: owner"),
            ('["d.toml"]', 'title = "x"\nowner = "client"\n[profile]\nknwn = []', "d.toml: unknown key 'profile.knwn'"),
        ],
    )
    def test_what_is_wrong_is_named_in_one_line(self, tmp_path: Path, components: str, device: str, said: str) -> None:
        (tmp_path / "d.toml").write_text(device)
        (tmp_path / "mine.toml").write_text(f'kind = "qemu"\ntitle = "mine"\ncomponents = {components}\n')
        with pytest.raises(UsageError) as e:
            load(str(tmp_path / "mine.toml"))
        assert said in str(e.value) and "\n" not in str(e.value)

    def test_a_dialect_that_one_component_does_not_have_is_missing(self) -> None:
        both, one = Profile(), Profile(dialects=["9p2000.L"])
        assert compose([both, one]).dialects == compose([one, both]).dialects == ["9p2000.L"]

    def test_an_entry_that_does_not_show_in_the_company_of_a_component(self) -> None:
        shy, bold = entry(unless=["v86-device", "x"]), entry()
        assert compose([Profile(known=[shy, bold])], ["linux-client", "v86-device"]).known == [bold]
        assert compose([Profile(known=[shy, bold])], ["linux-client"]).known == [shy, bold]


@pytest.mark.parametrize("signal", ["SIGABRT", "SIGSEGV", "SIGBUS"])
def test_a_buffer_that_is_too_small_ends_diod_in_any_way_or_not_at_all(signal: str) -> None:
    """The memory behind the buffer decides: each of the signals is known, and no signal is not the verdict `fixed`."""
    setting = Setting(versions={"target": "1.0.24"})
    entries = load("diod").profile.known_failures("WIRE-IO-004", "4294967295", setting)
    how = f"diod was killed by {signal}"
    assert any(one.covers(Finding(how, "died", {"how": how})) for one in entries)
    assert all(one.sometimes for one in entries)


def test_v86_charges_its_guest_s_client_with_what_that_does() -> None:
    entries = load("v86").profile.known_failures("LOCK-018", "", Setting(versions={"kernel": "6.1.0-50-686"}))
    assert [(one.component, one.owner) for one in entries] == [("linux-client", "client")]
