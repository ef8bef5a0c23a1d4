"""Targets whose devices are vhost-user back ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.case import MOUNTED
from conformance.errors import UsageError
from conformance.sut.asked import check
from conformance.sut.layers import default_layers, links_of
from conformance.sut.load import load
from conformance.sut.parts.serving import Backends
from conformance.sut.uml.tables import UmlTarget
from tests.targets import asked, loaded


def target(directory: Path, text: str) -> str:
    path = directory / "mine.toml"
    path.write_text(f'kind = "uml"\ntitle = "mine"\n{text}', encoding="utf-8")
    return str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="back ends run contained, which needs root")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nprogram = "other"\n', "needs program = 'reference', or a command"),
        ('[server]\ncomand = ["x"]\n', "did you mean 'command'"),
    ],
)
def test_a_server_table_that_names_no_back_end_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(target(tmp_path, text))


@pytest.mark.skipif(os.geteuid() != 0, reason="back ends run contained, which needs root")
def test_any_back_end_can_be_named_by_its_command(tmp_path: Path) -> None:
    text = '[server]\nprogram = "mine"\ncommand = ["mine", "--dir={export}", "{socket}", "{tag}"]\n'
    made = Backends(
        loaded(target(tmp_path, text), UmlTarget).server, tmp_path, tmp_path, [tmp_path / str(n) for n in range(4)]
    )
    try:
        assert made._command(2) == ["mine", f"--dir={tmp_path}/2", str(made.sockets[2]), "share2"]
        assert made.version == "" and made.title.startswith("mine ")
        assert len(str(made.sockets[0])) < 100 and made.death() is None and made.processes() == {}
    finally:
        made.remove()
    assert not made.sockets[0].parent.exists()


@pytest.mark.parametrize("name", ["reference-uml", "reference-qemu", "reference-tcp"])
def test_without_root_it_is_refused_and_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="needs root: a server under test runs contained"):
        check(asked(name))


def test_a_back_end_of_its_own_command_is_driven_through_its_mount_alone(tmp_path: Path) -> None:
    """Without a guest, only the project's own back end is started; otherwise 79 wire cases end as errors."""
    mine = load(target(tmp_path, '[server]\nprogram = "mine"\ncommand = ["true", "{socket}"]\n'))
    assert not links_of(mine) and set(default_layers(mine)) == set(MOUNTED)
    assert "wire" in default_layers(load(target(tmp_path, "")))
