"""File systems that are made for exported directories: mounted, refused, and gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.sut.parts.scratch import Scratch
from guests.errors import UsageError
from guests.host import file_systems
from guests.host.files import mounts_below

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: file systems are mounted")
KILLED = """
import os, sys
from conformance.sut.parts.scratch import Scratch
scratch = Scratch()
scratch.lie_on("ext4")
print(scratch.path, flush=True)
os.kill(os.getpid(), 9)
"""


def loops() -> str:
    """The loop devices in use, with their files."""
    return subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True).stdout


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_the_directory_lies_on_a_new_file_system_until_it_is_removed(kind: str) -> None:
    scratch = Scratch()
    try:
        scratch.lie_on(kind)
        assert mounts_below(scratch.path) == [str(scratch.path)]
        types = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
        assert types[str(scratch.path)] == kind
    finally:
        scratch.remove()
    assert not scratch.path.exists() and mounts_below(scratch.path) == []
    assert str(scratch.path) not in loops()


@needs_root
def test_a_kill_leaves_no_mount_and_no_loop_device_to_the_next_run(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    path = Path(done.stdout.strip())
    assert done.returncode == -9 and mounts_below(path) == [str(path)], done.stderr
    clean = "from guests.host.processes import clean_left_over; print(*clean_left_over())"
    said = subprocess.run([sys.executable, "-c", clean], env=environment, capture_output=True, text=True, check=True)
    assert str(path) in said.stdout
    assert not path.exists() and mounts_below(path) == [] and str(path) not in loops()


@needs_root
def test_a_kind_whose_program_is_missing_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "_PATH", "/nowhere")
    with pytest.raises(UsageError, match=r"--export-fs xfs needs mkfs\.xfs: apt-get install xfsprogs$"):
        file_systems.check_kind("xfs")


def test_an_unknown_kind_and_a_target_without_one_are_refused() -> None:
    for words, text in (
        (["local", "--export-fs", "ext5"], "--export-fs: unknown file system 'ext5': did you mean 'ext4'?"),
        (["reference", "--layer", "wire", "--export-fs", "ext4"], "--export-fs does not apply"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "assay9", "run", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2 and text in done.stderr, done.stderr
