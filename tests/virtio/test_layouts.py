"""Ring and vhost-user layouts, compared with bytes and offsets from independent sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol import vhost_user, virtqueue
from protocol.vhost_user import Malformed

_FILE = Path(__file__).parent.parent / "golden" / "vhost-user.hex"


def _golden() -> list[tuple[str, bytes]]:
    lines = [line for line in _FILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(lines[at], bytes.fromhex(lines[at + 1])) for at in range(0, len(lines), 2)]


@pytest.mark.parametrize(("text", "expected"), _golden(), ids=[text[:60] for text, _ in _golden()])
def test_golden(text: str, expected: bytes) -> None:
    made = eval(text, {"__builtins__": {}}, {**vars(virtqueue), **vars(vhost_user)})  # our own file, written by hand
    assert made == expected


def test_regions_come_back_as_they_went() -> None:
    regions = [vhost_user.MemoryRegion(at << 20, 1 << 20, at << 30, at) for at in range(8)]
    assert vhost_user.unpack_memory(vhost_user.pack_memory(regions)) == regions


def test_a_memory_table_that_lies_about_its_regions_is_malformed() -> None:
    body = bytearray(vhost_user.pack_memory([vhost_user.MemoryRegion(0, 4096, 0, 0)]))
    body[0] = 2
    with pytest.raises(Malformed, match="2 memory regions"):
        vhost_user.unpack_memory(body)
    body[0] = 9
    with pytest.raises(Malformed, match="8 are the most"):
        vhost_user.unpack_memory(body)
    with pytest.raises(Malformed, match="ends within"):
        vhost_user.unpack_memory(b"\1")


def test_a_config_size_that_lies_is_malformed() -> None:
    with pytest.raises(Malformed, match="config size"):
        vhost_user.unpack_config(vhost_user.pack_config(0, b"abc")[:-1])


def test_a_header_of_another_version_or_too_long_a_body_is_malformed() -> None:
    with pytest.raises(Malformed, match="version 2"):
        vhost_user.unpack_header(bytes.fromhex("010000000200000000000000"))
    with pytest.raises(Malformed, match="claims a body"):
        vhost_user.unpack_header(bytes.fromhex("0100000001000000ffffffff"))


def test_split_layout() -> None:
    # The legacy example of virtio 1.3, 2.7.2: used ring on the next page boundary.
    assert virtqueue.split_layout(128, 4096) == (0, 2048, 4096, 4096 + 4 + 128 * 8 + 2)
    # 8 descriptors: 128 bytes; available 4 + 16 + 2 = 22, to 150; used at the next multiple of 4.
    assert virtqueue.split_layout(8) == (0, 128, 152, 152 + 4 + 64 + 2)


@pytest.mark.parametrize(
    ("event", "new", "old", "wanted"),
    [
        (0, 1, 0, True),
        (1, 1, 0, False),
        (0, 2, 1, False),
        (65535, 0, 65535, True),
        (5, 10, 3, True),
        (9, 10, 10, False),
    ],
)
def test_needs_event(event: int, new: int, old: int, wanted: bool) -> None:
    assert virtqueue.needs_event(event, new, old) is wanted


def test_config_space() -> None:
    assert virtqueue.config_space(b"share") == b"\x05\x00share"
    for wrong in (b"", b"a\0b", b"x" * 65536):
        with pytest.raises(ValueError, match="tag"):
            virtqueue.config_space(wrong)
