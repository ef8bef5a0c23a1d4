"""``@handles(Tlopen)``: binds a function to the request it serves.

The rule of this module: one handler for one request; a second one is refused at import.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from protocol.registry import Message
from reference_server.session import Call, Operation, Place, Reply

_M = TypeVar("_M", bound=Message)

OPERATIONS: dict[int, Operation] = {}
"""By the request's number; filled by the modules beside this one."""

FID_FIELDS = frozenset({"fid", "dfid", "olddirfid", "newdirfid", "dirfd"})
"""Fields of requests that name a fid which has to exist."""


def handles(
    request: type[_M], place: Place = Place.INLINE, *, touches: bool = True
) -> Callable[[Callable[[Call, _M], Reply]], Callable[[Call, _M], Reply]]:
    """Serve ``request`` with the decorated function, at ``place``; ``touches``: it asks the store for something."""

    def declare(run: Callable[[Call, _M], Reply]) -> Callable[[Call, _M], Reply]:
        if request.type in OPERATIONS:
            raise TypeError(f"{request.__name__} has two handlers")
        named = tuple(field.name for field in request.fields if field.name in FID_FIELDS)
        untyped: Callable[[Call, Any], Reply] = run
        OPERATIONS[request.type] = Operation(request, untyped, place, named, touches)
        return run

    return declare
