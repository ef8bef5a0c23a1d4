"""The message for an unknown word, with the nearest known one. The project's only "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MANY = 30
"""The most valid words that a message lists; of more it gives the count."""


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word nearest to `word`, or None if none is near."""
    folded = {one.casefold(): one for one in sorted(valid)}
    near = difflib.get_close_matches(word.casefold(), folded, 3, 0.6)
    # two letters that changed places are the likeliest error, which difflib counts as two
    swapped = [one for one in near if sorted(one) == sorted(word.casefold())]
    return folded[(swapped or near)[0]] if near else None


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """`: did you mean 'vfs'?`, or nothing if no valid word is near."""
    near = nearest(word, valid)
    return "" if near is None else f": did you mean {near!r}?"


def unknown(what: str, word: str, valid: Iterable[str], see: str = "") -> str:
    """One line that refuses `word`: `unknown layer 'vsf': did you mean 'vfs'?`, or the list of valid words.

    `see` says where to find them when they are too many to list.
    """
    words = sorted(set(valid))
    near = nearest(word, words)
    if near is not None:
        hint = f"did you mean {near!r}?"
    elif not words:
        hint = "none exists"
    elif len(words) <= _MANY:
        hint = f"use one of {', '.join(words)}"
    else:
        hint = f"there are {len(words)} valid ones{f' ({see})' if see else ''}"
    return f"unknown {what} {shown(word)}: {hint}"


def shown(word: str) -> str:
    """A user's word as quoted in a message: on one line, without control characters, at most a line long.

    Of a longer one both ends are shown: a path is recognised by its last name.
    """
    quoted = repr(word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    return quoted if len(quoted) <= 80 else f"{quoted[:36]}...{quoted[-41:]}"
