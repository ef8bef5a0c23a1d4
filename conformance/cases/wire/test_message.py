"""Family `message`: which messages a server implements.

What is at stake: without one message no guest has a whole family of system calls. It is reported once, here; the cases
that need it are then undrivable, or unsupported if the target declares that. `conformance.raw.health` finds out before
the first case which messages are implemented.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.raw.health import PROBES
from conformance.raw.wire import Wire

PAIRS = {"rename": ("Trenameat", "Trename"), "unlink": ("Tunlinkat", "Tremove")}
"""What Linux does by the first message, or by the second where the first is answered with EOPNOTSUPP."""
EITHER = [name for pair in PAIRS.values() for name in pair]
ALONE = [name for name in PROBES if name not in EITHER]


@pytest.mark.parametrize("name", ALONE)
@case("WIRE-MESSAGE-001", severity="linux")
def test_message_is_implemented(wire: Wire, name: str) -> None:
    """The message is implemented: it is not answered with EOPNOTSUPP, ENOSYS or ENOTSUPP, nor treated as an unknown
    type.  Source: chaos/diod protocol.md; Linux sends it and has no fallback (net/9p/client.c)."""
    wire.judge_message(name)


@pytest.mark.parametrize("what", PAIRS)
@case("WIRE-MESSAGE-002", severity="linux")
def test_one_of_two_messages_is_implemented(wire: Wire, what: str) -> None:
    """Files can be renamed and removed, by the newer message or by the one to which Linux falls back.  Source: Linux
    fs/9p/vfs_inode.c, v9fs_vfs_rename and v9fs_remove, which fall back after EOPNOTSUPP."""
    newer, older = PAIRS[what]
    if newer in wire.missing:
        wire.judge_message(older)


@pytest.mark.parametrize("name", EITHER)
@case("WIRE-MESSAGE-003", severity="varies")
def test_both_messages_are_implemented(wire: Wire, name: str) -> None:
    """The newer message of a pair is implemented, and so is the older one.  Source: chaos/diod protocol.md, renameat
    and unlinkat, "if the server returns ENOTSUPP, the client should fall back to the rename operation"."""
    wire.judge_message(name)
