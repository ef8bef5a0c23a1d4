"""The commands that mount a share, and what they cannot express."""

from __future__ import annotations

import pytest

from conformance.errors import Undrivable, UsageError
from conformance.sut.parts.mount_methods import mount_command
from conformance.vfs.mount_options import DEFAULT, parse

VIRTIO = ("trans=virtio", "share0", "/mnt/x")


def test_linux_mounts_with_every_option() -> None:
    assert mount_command(parse("cache=mmap"), "Linux", *VIRTIO) == [
        "mount",
        "-t",
        "9p",
        "-o",
        "trans=virtio,version=9p2000.L,msize=131072,access=client,cache=mmap",
        "share0",
        "/mnt/x",
    ]


def test_freebsd_mounts_by_p9fs() -> None:
    assert mount_command(DEFAULT, "FreeBSD", *VIRTIO) == ["mount", "-t", "p9fs", "share0", "/mnt/x"]


@pytest.mark.parametrize("text", ["cache=loose", "msize=8192", "version=9p2000.u", "access=any", "posixacl"])
def test_what_p9fs_has_no_option_for_is_undrivable(text: str) -> None:
    with pytest.raises(Undrivable, match=rf"p9fs has no option for .*{text.partition('=')[0]}"):
        mount_command(parse(text), "FreeBSD", *VIRTIO)


@pytest.mark.parametrize(
    ("text", "transport", "argv"),
    [
        ("", "trans=virtio", "9mount -u -v -m 131072 virtio!share0 /mnt/x"),
        ("cache=loose,msize=8192", "trans=virtio", "9mount -u -v -m 8192 -c loose virtio!share0 /mnt/x"),
        ("access=any", "trans=tcp,port=5640", "9mount -u -v -m 131072 -s tcp!share0!5640 /mnt/x"),
    ],
)
def test_9mount(text: str, transport: str, argv: str) -> None:
    options = parse(f"by=9mount,version=9p2000.u,{text}")
    assert mount_command(options, "Linux", transport, "share0", "/mnt/x") == argv.split()
    assert "by=9mount" in str(options)


@pytest.mark.parametrize("text", ["", "version=9p2000.u,access=7", "version=9p2000.u,posixacl"])
def test_what_9mount_cannot_express_is_undrivable(text: str) -> None:
    with pytest.raises(Undrivable, match="9mount"):
        mount_command(parse(f"by=9mount,{text}"), "Linux", *VIRTIO)


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"8mount.*mount"):
        parse("by=8mount")
