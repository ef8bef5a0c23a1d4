"""The raw client has one operation for each declared request; its parameters have the names of the fields."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from conformance.raw.operations import Client, operation
from protocol import messages
from tests.wire.test_linux_defaults import Silent

BY_HAND = {"Tversion": "a reply sets msize", "Tlerror": "illegal"}
"""Requests without an `operation`, and why."""
OF_THE_CALL = {"expect", "exact"}
"""Parameters that select how the reply is judged, and whether to omit bits that Linux adds."""
OPERATIONS = {name: made for name, made in vars(Client).items() if isinstance(made, operation)}
VALUES: dict[str, object] = {"bytes": b"v", "Buffer": b"v", "tuple[int, int]": (0x51, 0x52)}


def sent(name: str) -> tuple[Any, dict[str, Any]]:
    """The message of an operation that gets a distinct value for each parameter, and these values."""
    parameters = [p for p in inspect.signature(OPERATIONS[name]._send).parameters.values() if p.name != "self"]
    values: dict[str, Any] = {}
    for number, one in enumerate(p for p in parameters if p.name not in OF_THE_CALL):
        values[one.name] = VALUES.get(str(one.annotation), 0x40 + number)
    positional = [values[p.name] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name in values]
    positional += [values[p.name] for p in parameters if p.kind is p.VAR_POSITIONAL]
    named = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in values}
    exact = {"exact": True} if any(p.name == "exact" for p in parameters) else {}
    return getattr(Silent(), name).send(*positional, **named, **exact).request, values


def test_each_request_has_one_operation() -> None:
    requests = {name for name in messages.BY_NAME if name.startswith("T")}
    made = sorted(type(sent(name)[0]).__name__ for name in OPERATIONS)
    assert made == sorted(requests - set(BY_HAND))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_parameter_is_the_field_of_that_name(name: str) -> None:
    message, values = sent(name)
    for parameter, value in values.items():
        if isinstance(value, tuple):
            assert (getattr(message, f"{parameter}_sec"), getattr(message, f"{parameter}_nsec")) == value
        else:
            seen = getattr(message, parameter)
            assert seen == ((value,) if isinstance(seen, tuple) else value), parameter
    fields = {field.name.removesuffix("_nsec").removesuffix("_sec") for field in message.fields}
    assert fields - {"tag"} == set(values), "every field can be chosen"


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_awaits_the_reply_of_its_request(name: str) -> None:
    request, _values = sent(name)
    reply = inspect.signature(OPERATIONS[name]._send).return_annotation
    assert reply == f"Pending[m.R{type(request).__name__[1:]}]"
