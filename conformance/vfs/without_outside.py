"""Which cases say nothing where no vantage outside the guest exists: those whose judgement is a comparison.

`share.same_stat("f")` as a statement compares inside with outside and throws away what it saw. Without an outside it
would hold whatever the target does, and a case that relies on it would pass without having looked. A case that goes on
to judge what `same_stat` returns, or what its calls return, still judges what inside shows.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

_COMPARISONS = "same_"


@functools.cache
def only_compares(function: Callable[..., Any]) -> bool:
    """Whether the function, or one of the suite's that it calls by name, states a comparison with outside."""
    return any(_compares(one) for one in reached(function))


def _compares(function: Callable[..., Any]) -> bool:
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr.startswith(_COMPARISONS)
        for node in ast.walk(_tree(function))
    )


def reached(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function and those of `conformance.cases` that it names, and that these name, and so on."""
    found = [function]
    for one in found:
        for name in inspect.unwrap(one).__code__.co_names:
            other = one.__globals__.get(name)
            if inspect.isfunction(other) and other.__module__.startswith("conformance.cases") and other not in found:
                found.append(other)
    return found


@functools.cache
def _tree(function: Callable[..., Any]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))
