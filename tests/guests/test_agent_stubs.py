"""The stubs that callers of the agent's ops are checked against match the agent's declarations."""

from __future__ import annotations

import ast

import pytest

from guests.agent.by_name import ByName
from guests.agent.payload.declare import OPS
from tests.agent_stubs import STUBS, Stub, declared


def meaning(text: str) -> str:
    """A stub without its layout and without the order of its imports."""
    tree = ast.parse(text)
    tree.body.sort(key=lambda node: (not isinstance(node, ast.ImportFrom), getattr(node, "module", "")))
    return ast.dump(tree)


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.path.name)
def test_the_types_of_ops_are_those_of_their_declarations(stub: Stub) -> None:
    fresh = meaning(stub.path.read_text(encoding="utf-8")) == meaning(stub.text())
    assert fresh, "the agent's declarations changed: run `.venv/bin/python -m tests.agent_stubs`"


def test_every_op_has_a_method() -> None:
    assert {function.name.rstrip("_") for function in declared()} == set(OPS)


def test_a_misspelled_op_is_refused_with_the_nearest() -> None:
    class Echo(ByName):
        def perform(self, op: str, *args: object, **kw: object) -> object:
            return op, args, kw

    assert Echo().chmod("fred", mode=0o640) == ("chmod", ("fred",), {"mode": 0o640})
    with pytest.raises(AttributeError, match="no op 'chmood': did you mean 'chmod'"):
        _ = Echo().chmood
