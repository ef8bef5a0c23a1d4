"""Family `states`: random sequences of messages, several fids and tags in flight, against a model of the session.

What is at stake: orders of messages that nobody thought of: a fid is clunked, reused and opened while another fid of
the same file is removed.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.checks import report_all
from conformance.model.protocol import asks
from conformance.raw.sequences import Requests
from conformance.raw.wire import Wire
from protocol.messages import Tclunk, Tlcreate, Tlopen, Tread, Tremove, Twalk, Twrite

SEQUENCES, REQUESTS = 40, 60


@pytest.mark.parametrize("width", [1, 8], ids=["one", "eight"])
@pytest.mark.parametrize("seed", [1, 2])
@case("WIRE-STATES-001", covers=[Twalk, Tlopen, Tlcreate, Tread, Twrite, Tclunk, Tremove], seconds=300)
def test_random_requests(wire: Wire, seed: int, width: int) -> None:
    """Whatever requests come, one by one or several independent ones in flight, each is served or refused as the state
    of its fid and of the tree demands, and reads return what was written.  Source: intro(5), walk(5), open(5), read(5),
    remove(5), "The remove request ... clunks the fid, even if the remove fails"."""
    player = Requests(wire.client, width)
    found = player.search([list(asks(1000 * seed + number, REQUESTS)) for number in range(SEQUENCES)])
    report_all([found] if found is not None else [])
