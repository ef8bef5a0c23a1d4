"""A guest that caches files drops its caches before each case, even where the share is never mounted again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.share import Share
from tests.cases import made_case


class Attached(LocalDeployment):
    """A deployment that reports a 9p share, which is mounted once and stays mounted."""

    line = "work /mnt/x 9p rw,cache=loose"

    def mount(self, options: MountOptions) -> str:
        return self.line


def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, line: str) -> bool:
    """Whether the guest was asked to drop its caches before a case on such a mount."""
    asked: list[bool] = []

    def body(share: Share) -> None:
        share.inside.refuses(2).stat("nobody")

    target = LocalTarget(name="attached", kind="local", title="attached")
    deployment = Attached(target, tmp_path, print)
    deployment.line = line
    runner = Runner(target, deployment, "never", "main")
    deployment.start()
    begin = deployment.inside.begin_case

    def spied(*args: Any, **kw: Any) -> None:
        asked.append(kw.pop("drop_caches"))  # not really dropped: the test must leave this host's caches alone
        begin(*args, **kw)

    monkeypatch.setattr(deployment.inside, "begin_case", spied)
    case = made_case(body, caches=(cache,))
    try:
        runner.run(case, "", MountOptions(cache=cache), body)
    finally:
        runner.stop()
    return asked == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="root in the guest")
def test_a_cached_share_that_is_never_mounted_again_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begun(tmp_path, monkeypatch, "loose", Attached.line)
    assert not begun(tmp_path, monkeypatch, "none", "work /mnt/x 9p rw")
    assert not begun(tmp_path, monkeypatch, "loose", "none /x local (a directory of this host)")
