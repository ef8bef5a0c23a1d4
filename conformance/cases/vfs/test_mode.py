"""chmod(2), fchmod(2), fchmodat(2): the permission bits, who may change them, and what clears set-id bits."""

from __future__ import annotations

from errno import ENOENT

import pytest

from conformance.case import case
from conformance.share import Share
from protocol.messages import Tsetattr


@case("MODE-001", covers=[Tsetattr], cached_too=True)
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o640, 0o777], ids=oct)
def test_chmod_changes_only_the_permission_bits(share: Share, mode: int) -> None:
    """chmod(2) sets the permission bits and leaves type, owner, size and mtime alone.
    Source: POSIX chmod; 9P2000.L Tsetattr."""
    share.inside.create("fred", b"", 0o666)
    before = share.same_stat("fred")
    share.inside.chmod("fred", mode)
    after = share.same_stat("fred")
    assert after.changed_from(before) <= {"mode", "ctime_ns"}
    assert after.inside["st_mode"] & 0o7777 == mode


@case("MODE-002")
def test_chmod_of_a_missing_file(share: Share) -> None:
    """chmod(2) of a name that is not there fails with ENOENT.  Source: chmod(2)."""
    share.inside.refuses(ENOENT).chmod("nobody", 0o600)
