"""Reads the source of cases: which functions a case reaches, and whether it states that inside and outside agree."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def reached(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function and all functions of `conformance.cases` that it names, directly or through others."""
    found = [function]
    for one in found:
        for name in inspect.unwrap(one).__code__.co_names:
            other = one.__globals__.get(name)
            if inspect.isfunction(other) and other.__module__.startswith("conformance.cases") and other not in found:
                found.append(other)
    return found


def states_agreement(function: Callable[..., Any]) -> bool:
    """Whether the function discards what `Share.same` returns, so that only the agreement matters to it."""
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "same"
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    )
