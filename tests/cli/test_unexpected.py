"""An unexpected exception gives one line that says whose fault it is, and a file with the details."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from assay9 import refusal
from conformance.sut import load
from tests.cli.conftest import Command

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two\nlines"), "internal error, a defect of assay9 and not of the target: ValueError: two lines; "),
        (RecursionError(), "internal error, a defect of assay9 and not of the target: RecursionError; "),
        (
            OSError(28, "No space left on device", "/somewhere"),
            "a system call failed: No space left on device: /somewhere; ",
        ),
    ],
)
def test_an_unexpected_error_is_one_line_and_a_file(
    assay9: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, said: str
) -> None:
    def fails() -> list[str]:
        raise error

    monkeypatch.setattr(load, "names", fails)
    monkeypatch.setattr(refusal, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path)))
    seen = assay9("targets")
    assert seen.status == 3
    assert seen.one_line().startswith(f"assay9: {said}the details are in {tmp_path}/assay9-internal-error-")
    (kept,) = tmp_path.glob("assay9-internal-error-*.txt")
    text = kept.read_text()
    assert "command: 'assay9' 'targets'" in text and "in fails" in text and "Traceback" in text


def test_an_unexpected_error_in_a_thread_is_one_line_too(
    assay9: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails() -> None:
        raise ValueError("in a thread")

    def names() -> list[str]:
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
        return []

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # monkeypatch restores it afterwards
    monkeypatch.setattr(load, "names", names)
    monkeypatch.setattr(refusal, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path)))
    seen = assay9("targets")
    assert "ValueError: in a thread; the details are in " in seen.one_line()


def test_where_no_details_can_be_kept_the_line_says_so(
    assay9: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails() -> list[str]:
        raise ValueError("x")

    monkeypatch.setattr(load, "names", fails)
    monkeypatch.setattr(refusal, "tempfile", SimpleNamespace(gettempdir=lambda: "/proc/nowhere"))
    monkeypatch.chdir("/proc")
    assert "its details could not be kept" in assay9("targets").one_line()


def test_a_reader_that_went_away_is_no_error() -> None:
    argv = [sys.executable, "-m", "assay9", "cases", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 0 and said == b""


SMALL = ["run", "local", "--layer", "vfs", "--family", "mode", "-k", "MODE-002", "--jobs", "1"]


@pytest.mark.parametrize(
    ("shell", "arguments", "status", "said"),
    [
        ('exec "$@" >&- 2>&- <&-', SMALL, 0, ""),
        ('PYTHONIOENCODING=ascii exec "$@"', SMALL, 0, ""),
        ('exec "$@" >&-', ["targets"], 0, ""),
        ('exec "$@" 2>&-', ["run", "qmeu"], 2, ""),
        ('ulimit -n 20; exec "$@"', ["targets"], 3, "20 open files are allowed here, 256 are needed; raise ulimit -n"),
        ('mkdir gone; cd gone; rmdir ../gone; exec "$@"', ["targets"], 3, "the working directory is gone"),
    ],
)
def test_a_command_whose_surroundings_are_incomplete(
    shell: str, arguments: list[str], status: int, said: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "assay9", *arguments]
    if "ulimit" in shell and os.geteuid() == 0:  # root may exceed its limits
        program = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", *program]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    argv = ["sh", "-c", shell, "sh", *program]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr and "INTERNALERROR" not in done.stderr
    if said:
        assert done.stderr.startswith("assay9: ") and said in done.stderr, done
    elif "ascii" not in shell:  # the ascii run shows its progress on standard error
        assert not done.stderr, done
    if arguments is SMALL:
        assert "\\n" not in done.stdout, "pytest's writer spells out newlines, too"
        assert (tmp_path / "results" / "latest" / "record.json").is_file()
