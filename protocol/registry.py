"""How a message is declared: ``@message(number, family)`` over a class of annotated fields.

The rule of this module: everything that can be derived from a declaration is derived here or in
:mod:`protocol.codec`; a declaration that contradicts another one is refused at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from protocol.fields import Absent, Dialect, Field, Kind, Late, u16


@dataclass_transform(frozen_default=True)
class _Declared:
    """Shows type checkers that a class derived from it becomes a dataclass, by ``Registry.message``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Message(_Declared):
    """One 9P message, request or reply.  Its fields are in wire order, ``tag`` first."""

    type: ClassVar[int]
    """type[1] on the wire."""
    family: ClassVar[str]
    """Stem shared by the declaration, the server's handler module and the cases."""
    dialects: ClassVar[frozenset[Dialect]]
    """Dialects that have this message."""
    fields: ClassVar[tuple[Field, ...]]
    """The declared fields after ``tag``, in wire order."""

    tag: u16


_M = TypeVar("_M", bound=Message)

ALL = frozenset(Dialect)
L_ONLY = frozenset({Dialect.L})
NOT_L = frozenset({Dialect.BASE, Dialect.U})


class Registry:
    """The messages declared so far, by number and by name.  Refuses duplicates."""

    def __init__(self) -> None:
        self.by_type: dict[int, type[Message]] = {}
        self.by_name: dict[str, type[Message]] = {}

    def message(self, number: int, family: str, dialects: Iterable[Dialect] = L_ONLY) -> Callable[[type[_M]], type[_M]]:
        """Declare the decorated class as message ``number``.

        Raises ``TypeError`` when the number or the name is taken, when the name's T or R does not fit the
        number (requests are even, replies odd and one above), or when a field is of no known kind.
        """

        def declare(cls: type[_M]) -> type[_M]:
            declared: type[_M] = dataclass(frozen=True, slots=True)(cls)
            declared.type = number
            declared.family = family
            declared.dialects = frozenset(dialects)
            declared.fields = _fields_of(declared)
            _give_quick_init(declared)
            self._add(declared)
            return declared

        return declare

    def _add(self, cls: type[Message]) -> None:
        name, number = cls.__name__, cls.type
        if number in self.by_type:
            raise TypeError(f"{name}: number {number} is {self.by_type[number].__name__}'s")
        if name in self.by_name:
            raise TypeError(f"{name} is declared twice")
        if name[:1] != ("R" if number % 2 else "T"):
            raise TypeError(f"{name}: {number} is a number for a {'reply' if number % 2 else 'request'}")
        self.by_type[number] = cls
        self.by_name[name] = cls

    def reply_of(self, request: type[Message]) -> type[Message]:
        """The reply that answers ``request`` when it succeeds.  Raises ``KeyError`` for a reply class."""
        if request.type % 2:
            raise KeyError(f"{request.__name__} is a reply")
        return self.by_type[request.type + 1]


def _fields_of(cls: type[Message]) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    found: list[Field] = []
    for name in (field.name for field in fields(cls)):
        if name == "tag":
            continue
        marks: tuple[Any, ...] = getattr(hints[name], "__metadata__", ())
        kinds = [mark for mark in marks if isinstance(mark, Kind)]
        absents = [mark for mark in marks if isinstance(mark, Absent)]
        late = [mark for mark in marks if isinstance(mark, Late)]
        if len(kinds) != 1:
            raise TypeError(f"{cls.__name__}.{name} is of no known kind")
        if found and found[-1].kind is Kind.DATA:
            raise TypeError(f"{cls.__name__}.{found[-1].name}: data must be the last field")
        found.append(Field(name, kinds[0], absents[0] if absents else None, late[0] if late else None))
    if any(field.late and (field is not found[-1] or not all(f.kind.fixed for f in found)) for field in found):
        raise TypeError(f"{cls.__name__}: only the last of fixed-width fields may be late")
    return tuple(found)


def _give_quick_init(cls: type[Message]) -> None:
    """Set the slots directly instead of through ``object.__setattr__``: this halves the cost of making a message.

    A server makes two messages for every request, so the cost shows.  The parameters stay those of
    ``dataclasses``.
    """
    names = ["tag", *(field.name for field in cls.fields)]
    scope = {f"set_{name}": getattr(cls, name).__set__ for name in names}
    body = "".join(f"    set_{name}(self, {name})\n" for name in names)
    exec(f"def __init__(self, {', '.join(names)}):\n{body}", scope)
    cls.__init__ = scope["__init__"]  # type: ignore[method-assign]
