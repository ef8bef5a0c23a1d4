"""The model of a session: the possible results of requests, and which may be in flight together."""

from __future__ import annotations

from conformance.model.protocol import (
    DONE,
    EITHER,
    READ_ONLY,
    READ_WRITE,
    REFUSED,
    ROOT,
    Ask,
    Expected,
    Protocol,
    asks,
    together,
)


def test_a_file_lives_as_long_as_it_is_open() -> None:
    model = Protocol()
    model.expect(Ask("walk", ROOT, 1))
    assert model.expect(Ask("lcreate", 1, names=(b"a",))) == DONE
    assert model.expect(Ask("write", 1, data=b"abc")) == Expected(value=3)
    assert model.expect(Ask("unlink", ROOT, names=(b"a",))) == DONE
    assert model.state(1) == "open removed"
    assert model.expect(Ask("read", 1, number=1)) == Expected(value=b"bc")
    assert model.expect(Ask("clunk", 1)) == DONE
    assert model.expect(Ask("read", 1)) == REFUSED


def test_remove_clunks_whatever_comes_of_it() -> None:
    model = Protocol()
    model.expect(Ask("mkdir", ROOT, names=(b"a",)))
    model.expect(Ask("walk", ROOT, 1, (b"a",)))
    model.expect(Ask("mkdir", 1, names=(b"b",)))
    assert model.expect(Ask("remove", 1)) == REFUSED
    assert model.state(1) == "unknown"


def test_a_walk_that_ends_early_makes_no_fid() -> None:
    model = Protocol()
    model.expect(Ask("mkdir", ROOT, names=(b"a",)))
    assert model.expect(Ask("walk", ROOT, 1, (b"a", b"b"))) == Expected(value=1)
    assert model.state(1) == "unknown"


def test_what_was_removed_and_is_not_open_may_be_known_or_not() -> None:
    model = Protocol()
    model.expect(Ask("walk", ROOT, 1))
    model.expect(Ask("lcreate", 1, names=(b"a",)))
    model.expect(Ask("walk", ROOT, 2, (b"a",)))
    model.expect(Ask("unlink", ROOT, names=(b"a",)))
    assert model.expect(Ask("getattr", 2)) == EITHER


def test_requests_in_flight_together_touch_nothing_in_common() -> None:
    wanted = [
        Ask("walk", ROOT, 1),
        Ask("walk", ROOT, 2),
        Ask("lcreate", 1, names=(b"a",)),  # changes fid 1
        Ask("lopen", 2, number=READ_ONLY),
        Ask("readdir", 2),  # reads what fid 1 has made
        Ask("lopen", 2, number=READ_WRITE),
    ]
    groups = [[ask.op for ask, _, _ in group] for group in together(Protocol(), wanted[:5], 8)]
    assert groups == [["walk", "walk"], ["lcreate", "lopen"], ["readdir"]]
    assert all(len(group) == 1 for group in together(Protocol(), wanted, 1))


def test_a_seed_makes_the_same_requests_and_meets_most_states() -> None:
    assert list(asks(7, 60)) == list(asks(7, 60))
    met = {
        (ask.op, state)
        for seed in range(50)
        for group in together(Protocol(), list(asks(seed, 60)), 8)
        for ask, state, _ in group
    }
    assert len(met) > 40
