"""TOML files of targets and components: reading them, and one line for each error in them.

Rule of this module: it knows TOML and pydantic, but no particular table.
"""

from __future__ import annotations

import json
import re
import string
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from conformance.errors import UsageError
from guests.host.files import content
from guests.words import nearest, shown, unknown

_TAGS = frozenset({"str", "int", "bool", "float", "list[str]"})
"""What pydantic puts into a place to say which type of a union it tried."""


class Strict(BaseModel):
    """A table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises FileNotFoundError, or UsageError, one line, for any other problem."""
    try:
        return tomllib.loads(content(path).decode())
    except FileNotFoundError:
        raise
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: not TOML: nested too deeply") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read as a TOML file: {error.strerror}") from None
    except ValueError:  # a name with a null byte in it
        raise UsageError(f"{shown(str(path))} is not a file name") from None


M = TypeVar("M", bound=BaseModel)


def read_as(model: type[M], path: Path, remedy: str) -> M:
    """The TOML file as that model. Raises UsageError, one line: `remedy` ends that of a missing file."""
    try:
        return model.model_validate(read(path))
    except FileNotFoundError:
        raise UsageError(f"no file {path}: {remedy}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {problem(error, model)}") from None


def word(what: str, valid: Iterable[str] | Callable[[], Iterable[str]]) -> AfterValidator:
    """For a field's type: refuse an invalid word, and name the nearest valid one."""

    def check(given: str) -> str:
        words = list(valid() if callable(valid) else valid)
        if given not in words:
            raise ValueError(unknown(what, given, words))
        return given

    return AfterValidator(check)


def problem(error: ValidationError, root: Any, prefix: str = "") -> str:
    """The first error, with its place and, for a misspelt word, the nearest valid one.

    `root` is the type that was validated: a model, or a union of models with a discriminating key.
    """
    # a misspelt key is also a missing key: name what the user wrote
    found = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    extra = found["type"] == "extra_forbidden"
    parents, last = (found["loc"][:-1], found["loc"][-1:]) if extra else (found["loc"], ())
    at = _follow(parents, root)
    where = _place((*at.place, *last), prefix)
    if extra:
        return _no_key(str(last[0]), where, at)
    if found["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", str(found["ctx"]["expected"]))
        return f"{where}: {unknown('word', str(found['input']), valid)}"
    if found["type"] == "missing":
        return f"{where} is missing"
    if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _no_member(found, at.place, prefix)
    if found["type"] in ("tuple_type", "list_type"):
        return f"{where}: give a list, in brackets: [{_toml(found['input'])}]"
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}" if where else message


def _toml(value: object) -> str:
    """A value that is no table, in TOML syntax."""
    return json.dumps(value) if isinstance(value, str | int | float | bool) else "..."


@dataclass(frozen=True, slots=True)
class _At:
    """Where an error is."""

    place: tuple[int | str, ...]
    """The keys that lead there, as the file has them."""
    model: type[BaseModel] | None
    tag: str
    """The value that chose the model among `others`, "" where there was no choice."""
    others: tuple[type[BaseModel], ...]


def _follow(loc: Sequence[int | str], root: Any) -> _At:
    """Walk down the models; pydantic's locations include discriminating values, which a file's do not."""
    place: list[int | str] = []
    models, tag = _models_in(root), ""
    others: tuple[type[BaseModel], ...] = ()
    for part in loc:
        chosen = next((model for model in models if part in _words_of(model)), None) if len(models) > 1 else None
        if chosen is not None:
            others, models, tag = models, (chosen,), str(part)
        elif part not in _TAGS:
            place.append(part)
            if isinstance(part, str) and models and part in models[0].model_fields:
                models, tag, others = _models_in(models[0].model_fields[part].annotation), "", ()
    return _At(tuple(place), models[0] if len(models) == 1 else None, tag, others)


def _no_key(key: str, where: str, at: _At) -> str:
    keys = [name for name, field in at.model.model_fields.items() if not field.exclude] if at.model is not None else []
    if any(key in other.model_fields for other in at.others):
        return f"{where} does not apply to {shown(at.tag)}, which has {', '.join(sorted(keys))}"
    return unknown("key", key, keys).replace(shown(key), shown(where), 1)


def _no_member(found: ErrorDetails, place: tuple[int | str, ...], prefix: str) -> str:
    """No model of a union matches: the discriminating key is missing, misspelt, or has another value."""
    key = str(found["ctx"]["discriminator"]).strip("'")
    where = _place((*place, key), prefix)
    if found["type"] == "union_tag_invalid":
        valid = re.findall(r"'([^']*)'", str(found["ctx"]["expected_tags"]))
        return f"{where}: {unknown('word', str(found['ctx']['tag']), valid)}"
    written = found["input"] if isinstance(found["input"], dict) else {}
    for word in written:
        if nearest(str(word), [key]) is not None:
            return unknown("key", str(word), [key]).replace(shown(str(word)), shown(_place((*place, word), prefix)), 1)
    return f"{where} is missing"


def _place(loc: Sequence[int | str], prefix: str) -> str:
    """`profile.known` and a number as `profile.known, entry 3`; the rest joined by dots."""
    said = prefix
    for part in loc:
        if isinstance(part, int):
            said = f"{said} entry {part + 1}"
        else:
            said = f"{said}, {part}" if said.endswith(tuple("0123456789")) else f"{said}.{part}" if said else part
    return said


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(model for inner in get_args(annotation) for model in _models_in(inner))


def _words_of(model: type[BaseModel]) -> set[Any]:
    """The values of its literal keys, which identify the model."""
    fields = model.model_fields.values()
    return {word for field in fields if get_origin(field.annotation) is Literal for word in get_args(field.annotation)}


def placeholders(text: str, valid: tuple[str, ...]) -> str:
    """`text`, whose {placeholders} are all of `valid`. Raises ValueError."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}; write {{{{ or }}}} for a brace") from None
    for field in fields:
        if field not in valid:
            raise ValueError(unknown("placeholder", f"{{{field}}}", [f"{{{one}}}" for one in valid]))
    return text
