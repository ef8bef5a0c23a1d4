"""Message declarations: what the code derives from them, and which it refuses."""

from __future__ import annotations

import dataclasses

import pytest

from protocol import legacy, messages
from protocol.fields import Dialect, payload, u32
from protocol.messages import BY_NAME, BY_TYPE, Tgetattr, Tlock, Tlopen, Tread, reply_of
from protocol.registry import Message, Registry

# Numbers from chaos/diod protocol.md and Linux include/net/9p/9p.h (enum p9_msg_t), written independently.
NUMBERS = {
    "lerror": 6,
    "statfs": 8,
    "lopen": 12,
    "lcreate": 14,
    "symlink": 16,
    "mknod": 18,
    "rename": 20,
    "readlink": 22,
    "getattr": 24,
    "setattr": 26,
    "xattrwalk": 30,
    "xattrcreate": 32,
    "readdir": 40,
    "fsync": 50,
    "lock": 52,
    "getlock": 54,
    "link": 70,
    "mkdir": 72,
    "renameat": 74,
    "unlinkat": 76,
    "version": 100,
    "auth": 102,
    "attach": 104,
    "flush": 108,
    "walk": 110,
    "read": 116,
    "write": 118,
    "clunk": 120,
    "remove": 122,
}

FAMILIES = {
    "session",
    "walk",
    "open",
    "io",
    "directory",
    "attributes",
    "link",
    "node",
    "rename",
    "unlink",
    "xattr",
    "lock",
}


def test_every_message_of_the_protocol_and_no_other() -> None:
    expected = {f"T{name}": number for name, number in NUMBERS.items()}
    expected |= {f"R{name}": number + 1 for name, number in NUMBERS.items()}
    assert {name: cls.type for name, cls in BY_NAME.items()} == expected


def test_families() -> None:
    assert {cls.family for cls in BY_TYPE.values()} == FAMILIES
    for request in BY_TYPE.values():
        if not request.type % 2:
            assert reply_of(request).family == request.family


def test_legacy_numbers_are_free_in_the_dialect() -> None:
    assert not set(legacy.BY_TYPE) & set(BY_TYPE)
    assert not any(Dialect.L in cls.dialects for cls in legacy.BY_TYPE.values())


def test_messages_are_frozen_and_compare_by_value() -> None:
    message = Tlopen(1, 2, 3)
    assert message == Tlopen(tag=1, fid=2, flags=3)
    assert message != Tlopen(1, 2, 4)
    assert hash(message) == hash(Tlopen(1, 2, 3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.fid = 5  # type: ignore[misc]
    assert not hasattr(message, "__dict__")
    assert repr(message) == "Tlopen(tag=1, fid=2, flags=3)"


def test_fields_stand_in_wire_order_after_the_tag() -> None:
    assert [field.name for field in Tlock.fields] == [
        "fid",
        "locktype",
        "flags",
        "start",
        "length",
        "proc_id",
        "client_id",
    ]
    assert [field.name for field in dataclasses.fields(Tread)] == ["tag", "fid", "offset", "count"]


def test_a_wrong_number_of_fields_is_refused() -> None:
    with pytest.raises(TypeError):
        Tgetattr(1, 2)  # type: ignore[call-arg]


def test_reply_of() -> None:
    assert reply_of(messages.Twalk) is messages.Rwalk
    with pytest.raises(KeyError):
        reply_of(messages.Rwalk)


def test_duplicates_and_contradictions_are_refused() -> None:
    registry = Registry()

    @registry.message(2, "walk")
    class Tone(Message):
        fid: u32

    with pytest.raises(TypeError, match="number 2 is Tone's"):
        registry.message(2, "walk")(type("Ttwo", (Message,), {"__annotations__": {}}))
    with pytest.raises(TypeError, match="declared twice"):
        registry.message(4, "walk")(type("Tone", (Message,), {"__annotations__": {}}))
    with pytest.raises(TypeError, match="a number for a reply"):
        registry.message(3, "walk")(type("Tthree", (Message,), {"__annotations__": {}}))
    with pytest.raises(TypeError, match="no known kind"):
        registry.message(6, "walk")(type("Tfour", (Message,), {"__annotations__": {"fid": int}}))
    with pytest.raises(TypeError, match="must be the last"):
        registry.message(8, "walk")(type("Tfive", (Message,), {"__annotations__": {"data": payload, "fid": u32}}))
