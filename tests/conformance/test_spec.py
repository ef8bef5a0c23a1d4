"""conformance.sut.spec: what a target's TOML file may contain, and how its errors are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.features import FEATURES
from conformance.sut.load import load, names
from conformance.sut.spec import Target

GOOD = 'kind = "qemu"\ntitle = "a target"\n'
KNOWN = '[[profile.known]]\ncase = "MODE-001"\nreason = "r"\nlink = "l"\nfinding = "errno"\n'


def written(tmp_path: Path, text: str) -> Target:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load(str(path))


@pytest.mark.parametrize("name", names())
def test_every_target_here_loads(name: str) -> None:
    target = load(name)
    target.profile.overrides()
    assert target.name == name
    assert {one.feature for one in target.profile.unsupported} <= set(FEATURES)
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
        (GOOD + "[[profile.known]]\ncase = 'X-001'\nlink = 'l'\nfinding = 'errno'\n", "reason"),
        (GOOD + "[[profile.known]]\ncase = 'X-001'\nreason = ''\nlink = 'l'\nfinding = 'errno'\n", "reason"),
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
