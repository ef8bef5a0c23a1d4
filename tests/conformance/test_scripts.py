"""Scripts of cases on a machine that runs processes in an unusual order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.cases.vfs.test_layered import FUSE, NOT_THERE

LATE = "import time; time.sleep(0.5 if kind == 18 else 0); "


@pytest.mark.skipif(os.geteuid() != 0, reason="root: mounts in a namespace of its own")
def test_a_reply_to_release_that_comes_after_the_unmounting(tmp_path: Path) -> None:
    """On a busy machine, the file system in user space ended with ENOENT, and LAYERED-002 was an error."""
    (tmp_path / "fred").write_bytes(b"content")
    (tmp_path / "view").touch()
    script = FUSE.replace("reply = answer(", f"{LATE}reply = answer(")
    assert LATE in script
    argv = ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode == NOT_THERE:
        pytest.skip("this kernel has no FUSE")
    assert (done.returncode, done.stdout.split()) == (0, ["content", "100003"]), done.stderr
