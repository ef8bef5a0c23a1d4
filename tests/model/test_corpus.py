"""Sequences of requests that are guided by what they reach."""

from __future__ import annotations

from itertools import pairwise

from conformance.model.corpus import OTHERS, Corpus
from conformance.model.protocol import FIELD_BITS, OTHER, ROOT, Ask
from conformance.raw.sequences import any_request
from protocol.codec import decode, frame
from protocol.messages import Tlcreate


def other(name: str, *fields: int) -> Ask:
    """A request that the model does not predict; its fields from the first on."""
    return Ask(
        OTHER, ROOT, names=(name.encode(),), number=sum(part << FIELD_BITS * at for at, part in enumerate(fields))
    )


LOCK, CREATE, ELSEWHERE = other("Tlock", 3, 1), other("Tlcreate", 3), other("Tgetattr", 4)


def made(corpus: Corpus, count: int = 30) -> list[list[Ask]]:
    return [corpus.following() for _ in range(count)]


def test_a_seed_makes_the_same_sequences_again() -> None:
    one, two, another = Corpus(5, 40), Corpus(5, 40), Corpus(6, 40)
    for corpus in (one, two, another):
        corpus.reached([CREATE, LOCK])
    assert made(one) == made(two) != made(another)
    assert all(1 <= len(sequence) <= 40 for sequence in made(one))


def test_what_reached_something_comes_again_with_what_it_needs_and_no_more() -> None:
    corpus = Corpus(1, 40)
    corpus.reached([ELSEWHERE, CREATE, ELSEWHERE, LOCK])
    pairs = [pair for sequence in made(corpus, 100) for pair in pairwise(sequence)]
    assert (CREATE, LOCK) in pairs, "as it was"
    varied = {two.names[0] for one, two in pairs if one == CREATE and two != LOCK}
    assert b"Tlock" in varied, "with a field changed"
    assert len({two.names for one, two in pairs if one == LOCK}) > 3, "with another request after it"
    assert all(two != ELSEWHERE for one, two in pairs if one == CREATE)


def test_without_guidance_nothing_comes_again() -> None:
    corpus, fresh = Corpus(1, 40, guided=False), Corpus(1, 40, guided=False)
    corpus.reached([CREATE, LOCK])
    assert made(corpus) == made(fresh)


def test_a_field_is_changed_alone() -> None:
    base = any_request("Tlcreate", CREATE.number, 1)
    changed = any_request("Tlcreate", other("Tlcreate", 3, 0, 0, 7).number, 1)
    assert isinstance(base, Tlcreate) and isinstance(changed, Tlcreate)
    assert (base.fid, base.name, base.flags) == (changed.fid, changed.name, changed.flags)


def test_each_request_can_be_encoded_whatever_its_fields() -> None:
    for name in OTHERS:
        for number in range(200):
            spread = number * 0x9E3779B97F4A7C15F39CC0605CEDC834
            assert type(decode(frame(any_request(name, spread, 7)))).__name__ == name
