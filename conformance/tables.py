"""TOML files of targets and components: reading them, and saying in one line what is wrong.

Rule of this module: it knows TOML and pydantic, and no table in particular.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import AfterValidator, BaseModel, ValidationError

from conformance.errors import UsageError
from guests.words import shown, unknown

_TAGS = frozenset({"str", "int", "bool", "float", "list[str]"})
"""What pydantic puts into a place to say which type of a union it tried."""


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises FileNotFoundError, and UsageError, one line, for all else."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: not TOML: nested too deeply") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a TOML file: {error.strerror}") from None
    except ValueError:  # a name with a null byte in it
        raise UsageError(f"{shown(str(path))} is no name of a file") from None


def word(what: str, valid: Iterable[str] | Callable[[], Iterable[str]]) -> AfterValidator:
    """For a field's type: refuse a word that is none of the valid ones, with the nearest."""

    def check(given: str) -> str:
        words = list(valid() if callable(valid) else valid)
        if given not in words:
            raise ValueError(unknown(what, given, words))
        return given

    return AfterValidator(check)


def problem(error: ValidationError, root: type[BaseModel], prefix: str = "") -> str:
    """The first thing that is wrong, with its place and, for a misspelt word, the nearest valid one."""
    # a key that is misspelt is also one that is missing: name what was written
    found = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    loc = tuple(part for part in found["loc"] if part not in _TAGS)
    where = _place(loc, prefix)
    if found["type"] == "extra_forbidden":
        inner = _table_at(loc[:-1], root)
        key = str(loc[-1])
        keys = [name for name, field in inner.model_fields.items() if not field.exclude]
        return unknown("key", key, keys).replace(shown(key), shown(where), 1)
    if found["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", str(found["ctx"]["expected"]))
        return f"{where}: {unknown('word', str(found['input']), valid)}"
    if found["type"] == "missing":
        return f"{where} is missing"
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _place(loc: Sequence[int | str], prefix: str) -> str:
    """`profile.known` and a number as `profile.known, entry 3`; the rest joined by dots."""
    said = prefix
    for part in loc:
        if isinstance(part, int):
            said = f"{said} entry {part + 1}"
        else:
            said = f"{said}, {part}" if said.endswith(tuple("0123456789")) else f"{said}.{part}" if said else part
    return said


def _table_at(loc: Sequence[int | str], root: type[BaseModel]) -> type[BaseModel]:
    table = root
    for part in loc:
        if isinstance(part, str) and part in table.model_fields:
            table = _model_in(table.model_fields[part].annotation) or table
    return table


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner)) is not None), None)
