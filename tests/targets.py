"""Targets for tests, as the models of their kinds, and the runs that tests ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from conformance.profiles.model import Profile
from conformance.sut.asked import asked_of
from conformance.sut.kind import Asked
from conformance.sut.load import load
from conformance.sut.servers.kind import ServerTarget
from conformance.sut.spec import Target

T = TypeVar("T", bound=Target)


def loaded(name: str, model: type[T]) -> T:
    """The target of that name, which has that model."""
    target = load(name)
    assert isinstance(target, model)
    return target


def asked(target: str | Target, layers: Sequence[str] = ("vfs",), **options: Any) -> Asked[Any, Any]:
    """What a run of these layers asks of a target."""
    return asked_of(load(target) if isinstance(target, str) else target, options, layers)


def served(title: str, profile: Profile | None = None, **table: Any) -> Asked[Any, Any]:
    """A run of the layer wire on a server with that [server] table."""
    target = ServerTarget.model_validate(
        {"name": "served", "kind": "server", "title": title, "server": table, "profile": profile or Profile()}
    )
    return asked(target, ("wire",))
