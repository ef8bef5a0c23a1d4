"""Sequences of requests that are guided by what they reach in the server: those that reached something new are changed
and continued.

The same seed makes the same sequences as long as the same ones reach something new.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from conformance.model.protocol import (
    FIDS_ASIDE,
    FIELD_BITS,
    MOST_FIELDS,
    OTHER,
    ROOT,
    Ask,
    Protocol,
    random_ask,
    usable,
)

OTHERS = (
    *("Tattach", "Tauth", "Tclunk", "Tflush", "Tfsync", "Tgetattr", "Tgetlock", "Tlcreate", "Tlink", "Tlock", "Tlopen"),
    *("Tmkdir", "Tmknod", "Tread", "Treaddir", "Treadlink", "Tremove", "Trename", "Trenameat", "Tsetattr", "Tstatfs"),
    *("Tsymlink", "Tunlinkat", "Twalk", "Twrite", "Txattrcreate", "Txattrwalk"),
)
"""Requests with any fields: all but Tversion, which ends the session."""
_CHAINS = 0.5
"""How often, once something was reached, a chain of requests that did so is put in instead of a random request."""
_LONGEST = 5
_VARIED = 0.6
_FID = (1 << FIELD_BITS) - 1
_SECOND = frozenset({"Twalk", "Txattrwalk", "Tlink", "Trename"})
"""Those whose second field is a fid, too."""


class Corpus:
    """Makes one sequence after the other."""

    def __init__(self, seed: int, steps: int, *, guided: bool = True) -> None:
        """`steps`: requests in a sequence at most. Not `guided`: `reached` changes nothing."""
        self._chance, self._steps, self._guided = random.Random(seed), steps, guided
        self._chains: dict[bool, list[list[Ask]]] = {False: [], True: []}
        """By whether the model predicts the last request."""

    def following(self) -> list[Ask]:
        """The next sequence; half of its requests are the model's own."""
        chance, model, made = self._chance, Protocol(), list[Ask]()
        length = chance.randint(max(self._steps // 2, 1), self._steps)
        aside = 0
        while len(made) < length:
            for ask in self._next(model, predicted=aside * 2 >= len(made)):
                if usable(model, ask):
                    model.expect(ask)
                    made.append(ask)
                    aside += ask.op == OTHER
        return made[: self._steps]

    def reached(self, sequence: Sequence[Ask]) -> None:
        """The last request of that sequence, or of that part of one, has reached something new."""
        if self._guided and sequence:
            self._chains[sequence[-1].op != OTHER].append(_chain(sequence))

    def _next(self, model: Protocol, *, predicted: bool) -> list[Ask]:
        """A request, or a chain that has reached something."""
        chance, chains = self._chance, self._chains[predicted]
        if chains and chance.random() < _CHAINS:
            return self._varied(chance.choice(chains))
        if predicted:
            return [random_ask(chance, model)]
        name, number = chance.choice(OTHERS), chance.getrandbits(FIELD_BITS * MOST_FIELDS)
        return [Ask(OTHER, ROOT, names=(name.encode(),), number=number)]

    def _varied(self, chain: Sequence[Ask]) -> list[Ask]:
        """The chain, mostly with a change: a field of its last request, another request after it on the same fid."""
        chance, made = self._chance, list(chain)
        last = made[-1]
        if last.op != OTHER or chance.random() >= _VARIED:
            return made
        if chance.random() < 0.5:
            at = chance.randrange(MOST_FIELDS) * FIELD_BITS
            made[-1] = replace(last, number=last.number ^ chance.getrandbits(FIELD_BITS) << at)
        else:
            number = chance.getrandbits(FIELD_BITS * MOST_FIELDS) & ~_FID | last.number & _FID
            made.append(Ask(OTHER, ROOT, names=(chance.choice(OTHERS).encode(),), number=number))
        return made


def _chain(sequence: Sequence[Ask]) -> list[Ask]:
    """The last request, and those before it that have to do with its fids."""
    wanted, chain = set[tuple[bool, int]](), list[Ask]()
    for ask in reversed(sequence):
        fids = _fids(ask)
        if not chain or wanted & fids:
            wanted |= fids
            chain.append(ask)
        if len(chain) == _LONGEST:
            break
    return chain[::-1]


def _fids(ask: Ask) -> set[tuple[bool, int]]:
    """The fids of a request, those of the model apart from the others."""
    if ask.op != OTHER:
        return {(True, fid) for fid in (ask.fid, *([ask.newfid] if ask.op == "walk" else []))} - {(True, ROOT)}
    parts = (ask.number & _FID, ask.number >> FIELD_BITS & _FID)
    return {(False, part % FIDS_ASIDE) for part in parts[: 1 + (ask.names[0].decode() in _SECOND)]} - {(False, 0)}
