"""On a terminal, a command that reads or writes the record of thousands of cases shows what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import assay9.plan
import assay9.profile
import conformance.reports.cli
import conformance.reports.publish_cli
from assay9.cli import cli
from conformance.profiles import check as judging
from tests.evidence import sample


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command shows at the moment. A slow step during which nothing is shown fails the test."""
    now: list[str] = []

    @contextmanager
    def shown(what: str) -> Iterator[None]:
        now.append(what)
        try:
            yield
        finally:
            now.remove(what)

    def long(real: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*given: Any, **more: Any) -> Any:
            assert now, f"{real.__name__} shows nothing"
            return real(*given, **more)

        return seen

    for module in (conformance.reports.cli, conformance.reports.publish_cli, assay9.plan, assay9.profile):
        monkeypatch.setattr(module, "shown", shown, raising=False)
        for name in ("load_run", "write_reports"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, long(getattr(module, name)))
    monkeypatch.setattr(judging, "check", long(judging.check))
    return now


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("report {run}", "wrote "),
        ("report {run} --print", "assay9"),
        ("compare {run} {run}", "qemu"),
        ("compare {run} {run} {run}", "qemu"),
        ("gate {run}", "qemu"),
        ("baseline save {run} base.json --force", "base.json: "),
        ("redact {run} published", "wrote "),
        ("verify {run}", ""),
        ("attest {run} --key none", ""),
        ("table {run}", "| "),
        ("merge {run} {run}", ""),
        ("plan matrix.toml plan.json --durations {run}", "shards"),
        ("profile check diod", "known failures"),
    ],
)
def test_what_takes_long_is_shown(
    words: str, said: str, doing: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = sample.write(tmp_path / "results", 12)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.toml").write_text('[[job]]\ntarget = "local"\n')
    done = CliRunner().invoke(cli, words.format(run=run_dir).split(" "))
    assert not isinstance(done.exception, AssertionError), done.exception
    assert said in done.output
    assert doing == []
