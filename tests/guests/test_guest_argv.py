"""The command line is a pure function, and the snapshot's key depends on what the guest sees and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guests.errors import InfrastructureError
from guests.machines.qemu.argv import Host, fsdev, qemu_argv, snapshot_key
from guests.machines.qemu.machine import check
from guests.machines.spec import MachineSpec, Share

HOST = Host(
    kernel=Path("/i/vmlinux"),
    initramfs=Path("/i/initramfs"),
    root=Path("/i/root.squashfs"),
    state=Path("/s/state.qcow2"),
    console_socket=Path("/r/console"),
    console_log=Path("/r/console.log"),
    qmp_socket=Path("/r/qmp"),
    ssh_port=2222,
    resident_port=2223,
)
SPEC = MachineSpec(
    image="debian12", run_dir=Path("/run"), shares=(Share("share0", Path("/a")), Share("share1", Path("/b")))
)


def key(spec: MachineSpec, accelerator: str = "tcg") -> str:
    return snapshot_key(spec, accelerator, "image", "qemu")


def test_every_share_has_its_device_at_its_own_slot() -> None:
    argv = qemu_argv(SPEC, "tcg", HOST, restore=False)
    assert "virtio-9p-pci,fsdev=fs0,mount_tag=share0,addr=0x8" in argv
    assert "virtio-9p-pci,fsdev=fs1,mount_tag=share1,addr=0x9" in argv
    assert "local,id=fs1,path=/b,security_model=passthrough,multidevs=remap" in argv


def test_restoring_differs_from_booting_by_loadvm_alone() -> None:
    boot, restore = (qemu_argv(SPEC, "tcg", HOST, restore=flag) for flag in (False, True))
    assert restore == [*boot, "-loadvm", "ready"]


def test_a_comma_in_a_path_is_doubled() -> None:
    share = Share("t", Path("/a,b"), readonly=True, options={"fmode": "0600"})
    assert fsdev(0, share) == (
        "local,id=fs0,path=/a,,b,security_model=passthrough,multidevs=remap,readonly=on,fmode=0600"
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, run_dir=Path("/elsewhere"), ssh_port=5, host_args=("-trace", "v9fs_*"), keep=True),
        replace(SPEC, launcher=("nsenter",)),
        replace(
            SPEC,
            shares=(
                Share("share0", Path("/x"), security_model="mapped-file", readonly=True),
                Share("share1", Path("/y"), multidevs="forbid", options={"dmode": "0700"}),
            ),
        ),
    ],
)
def test_the_hosts_side_is_not_in_the_snapshot_key(other: MachineSpec) -> None:
    assert key(other) == key(SPEC)


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, memory_mb=1024),
        replace(SPEC, cpus=2),
        replace(SPEC, machine="q35"),
        replace(SPEC, control_mb=64),
        replace(SPEC, qemu_args=("-device", "virtio-rng-pci")),
        replace(SPEC, shares=SPEC.shares[:1]),
        replace(SPEC, shares=(SPEC.shares[0], Share("other", Path("/b")))),
    ],
)
def test_what_the_guest_sees_is_in_the_snapshot_key(other: MachineSpec) -> None:
    assert key(other) != key(SPEC)


def test_image_qemu_and_accelerator_are_in_the_snapshot_key() -> None:
    keys = {
        key(SPEC),
        key(SPEC, "kvm"),
        snapshot_key(SPEC, "tcg", "other", "qemu"),
        snapshot_key(SPEC, "tcg", "image", "other"),
    }
    assert len(keys) == 4


def test_impossible_shares_are_refused_in_one_line(tmp_path: Path) -> None:
    here = Share("t", tmp_path)
    for shares, words in (
        ((here, here), "two shares with one tag"),
        ((Share("t", tmp_path / "absent"),), "does not exist"),
        ((Share("x" * 32, tmp_path),), "31 bytes"),
        (tuple(Share(f"t{n}", tmp_path) for n in range(25)), "room for 24"),
    ):
        with pytest.raises(InfrastructureError, match=words) as caught:
            check(replace(SPEC, shares=shares))
        assert "\n" not in str(caught.value)


def test_infrastructure_errors_are_never_findings() -> None:
    error = InfrastructureError("it\nbroke", "repair it")
    assert not isinstance(error, AssertionError)
    assert str(error) == "it broke — repair it"
