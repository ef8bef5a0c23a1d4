"""The one requirement on which every other depends: the share can be mounted.

It runs first for each way of mounting. Where it fails, the cases that need that mount are undrivable for it.
"""

from __future__ import annotations

import os

from conformance.case import case
from conformance.checks import equal
from conformance.run.mounting import MOUNTABLE
from conformance.vfs.share import Share
from protocol.messages import Tlopen


@case(MOUNTABLE, covers=[Tlopen], cached_too=True, control=False)
def test_can_be_mounted(share: Share) -> None:
    """The share can be mounted with these options, at the latest in a second attempt on a fresh guest. /proc/mounts
    shows the mount, and its root is an empty directory that agrees inside and outside.
    Source: mount(2); Documentation/filesystems/9p.rst, USAGE."""
    shown = [where for _, where, _, _ in share.inside.mounts()]
    mounted_here = share.mounted.mount_point in shown or share.on_control or "remount" not in share.mounted.features
    equal(f"/proc/mounts shows the mount at {share.mounted.mount_point}", mounted_here, True, code="mount")
    equal("names in the case's directory", share.same(share.directory(".")), [], code="names")
    fd = share.inside.open(".", os.O_RDONLY | os.O_DIRECTORY)
    share.inside.close(fd)
