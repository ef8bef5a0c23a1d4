"""The one requirement on which every other depends: the share can be mounted.

It runs first for each way of mounting. Where it fails, the cases that need that mount are undrivable for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from conformance.case import case
from conformance.checks import equal
from conformance.run.mounting import MOUNTABLE
from conformance.vfs.share import Share
from protocol.messages import Tlopen


def mounted_at_or_above(path: str, mounts: Iterable[Sequence[str]]) -> bool:
    """Whether /proc/mounts has a 9P mount there: on a machine that is not its own the suite works below the mount."""
    return any(kind == "9p" and f"{path}/".startswith(f"{where}/") for _, where, kind, _ in mounts)


@case(MOUNTABLE, covers=[Tlopen], cached_too=True, control=False)
def test_can_be_mounted(share: Share) -> None:
    """The share can be mounted with these options, at the latest in a second attempt on a fresh guest. /proc/mounts
    shows the mount, and its root is an empty directory that agrees inside and outside.
    Source: mount(2); Documentation/filesystems/9p.rst, USAGE."""
    shown = mounted_at_or_above(share.mounted.mount_point, share.inside.mounts())
    mounted_here = shown or share.on_control or "remount" not in share.mounted.features
    equal(f"/proc/mounts shows the mount at {share.mounted.mount_point}", mounted_here, True, code="mount")
    equal("names in the case's directory", share.same(share.directory(".")), [], code="names")
    fd = share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.close(fd)
