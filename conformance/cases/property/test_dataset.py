"""A file system below the export whose own properties say what may be done there: `setuid=off`, `devices=off` of ZFS.

The author of virtio-9p for bhyve on illumos tried by hand how they change what the guest sees
(https://www.illumos.org/issues/13380). The properties act on the host. In the guest the flags of its own mount decide,
so all bits and nodes pass unchanged. `test_full` has the case of a data set's quota.
"""

from __future__ import annotations

import os
import stat

import pytest

from conformance.case import case
from conformance.cases.property.mounting import dataset
from conformance.cases.property.test_mount_flags import devices_shown, guests_device, guests_set_user_id, keeps_its_bits
from conformance.vfs.share import Share
from protocol.messages import Tgetattr, Tlopen, Tread


@case("DATASET-001", needs=["mount-namespace"], covers=[Tgetattr], about="agreement")
@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6711], ids=oct)
def test_setuid_off_keeps_the_bits(share: Share, mode: int) -> None:
    """In a data set with setuid=off the set-user-ID and set-group-ID bits are set, kept and shown as elsewhere.
    Source: zfsprops(7) setuid: "whether the setuid bit is respected for the file system"; mount(8) nosuid."""
    with dataset(share, "d", "setuid=off"):
        keeps_its_bits(share, mode)


@case(
    "DATASET-002",
    needs=["mount-namespace", "guest-root"],
    covers=[Tlopen, Tread],
    severity="linux",
    about="agreement",
)
def test_setuid_off_is_the_hosts(share: Share) -> None:
    """A set-user-ID program in a data set with setuid=off runs in the guest as the guest's own mount says.
    Source: zfsprops(7): setuid is a property of the host's mount, not of the guest's; execve(2)."""
    with dataset(share, "d", "setuid=off"):
        guests_set_user_id(share)


@case("DATASET-003", needs=["mount-namespace", "host-root"], covers=[Tgetattr], about="agreement")
def test_devices_off_shows_devices(share: Share) -> None:
    """Device nodes in a data set with devices=off show their type and device numbers inside.
    Source: zfsprops(7) devices: "whether device nodes can be opened on this file system"; mount(8) nodev."""
    with dataset(share, "d", "devices=off"):
        share.outside.mknod("d/char", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        share.outside.mknod("d/block", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
        devices_shown(share)


@case("DATASET-004", needs=["mount-namespace", "host-root", "guest-root"], severity="linux")
def test_device_of_devices_off_is_the_guests(share: Share) -> None:
    """A device node in a data set with devices=off that is opened in the guest is the guest's device: the server never
    opens it.
    Source: mknod(2), NFS semantics of special files; known defect: CVE-2023-2861."""
    with dataset(share, "d", "devices=off"):
        share.outside.mknod("d/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        share.outside.chmod("d/zero", 0o666)
        guests_device(share)
