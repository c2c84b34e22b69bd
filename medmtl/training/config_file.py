"""A TOML file and `--set` into settings; every problem at once, with the nearest known key."""

from __future__ import annotations

import copy
import difflib
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["read_settings", "settings_of"]

Settings = TypeVar("Settings", bound=BaseModel)
Table = dict[str, Any]


def read_settings(model: type[Settings], path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a TOML file, some of them replaced.

    Args:
        model: What the file must hold.
        path: The file.
        overrides: `a.b=value` each, later ones win; the value is TOML, a number is a place in a
            list.

    Raises:
        ConfigError: Naming every problem of the file and of the overrides.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path.name}: cannot be read ({error.strerror}). Give the path of a TOML file."
        raise ConfigError(message) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name}: no TOML: {error}") from error
    return settings_of(model, table, source=path.name, overrides=overrides)


def settings_of(
    model: type[Settings], table: Table, *, source: str, overrides: Sequence[str] = ()
) -> Settings:
    """Settings from plain values; arguments and errors as those of `read_settings`."""
    table, problems = copy.deepcopy(table), []
    for override in overrides:
        problems += _override(table, override)
    settings = None
    try:
        settings = model.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list whose item is wrong is empty to pydantic; the item says what is wrong.
        wrong = {one["loc"][:n] for one in found for n in range(len(one["loc"]))}
        problems += [_problem(model, table, one) for one in found if one["loc"] not in wrong]
    if settings is None or problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{source}: {len(problems)} problem(s){lines}")
    return settings


def _override(table: Table, text: str) -> list[str]:
    """Put one `a.b=value` into the table; problems found on the way."""
    key, equals, value_text = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        return [f"--set {text}: expected key=value, such as trainer.max_epochs=5"]
    try:
        value = tomllib.loads(f"value = {value_text}")["value"]
    except tomllib.TOMLDecodeError:
        return [f"--set {key}: {value_text!r} is no TOML value; text needs quotes: '{key}=\"...\"'"]
    place: Any = table
    for depth, part in enumerate(path):
        is_last = depth == len(path) - 1
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                where = ".".join(path[:depth])
                return [f"--set {key}: {where} is a list of {len(place)}; found {part!r}"]
            index: Any = int(part)
        elif isinstance(place, dict):
            index = part
            if not is_last:
                place.setdefault(part, {})
        else:
            return [f"--set {key}: {'.'.join(path[:depth])} is a value, not a table"]
        if is_last:
            place[index] = value
        else:
            place = place[index]
    return []


def _problem(model: type[BaseModel], table: Table, error: Any) -> str:
    """One line for one finding of pydantic."""
    keys = list(_keys(table, error["loc"]))
    where = ".".join(str(key) for key in keys)
    if error["type"] == "extra_forbidden":
        known = [
            field.alias or name
            for one in _models_at(model, table, keys[:-1])
            for name, field in one.model_fields.items()
        ]
        near = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
        return f"{where}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{where}: missing; a value is required"
    message = str(error["msg"]).removeprefix("Value error, ")
    found = error["input"]
    shown = f"; found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{where}: {message}{shown}" if where else message


def _keys(table: Any, loc: Sequence[str | int]) -> Iterator[str | int]:
    """The keys of the file in pydantic's path: without the names of union members."""
    place = table
    for number, part in enumerate(loc):
        is_here = (isinstance(place, dict) and part in place) or (
            isinstance(place, list) and isinstance(part, int) and part < len(place)
        )
        if is_here:
            place = place[part]
            yield part
        elif number == len(loc) - 1:
            yield part


def _models_at(
    model: type[BaseModel], table: Any, keys: Sequence[str | int]
) -> list[type[BaseModel]]:
    """The models whose fields may stand at a place of the file."""
    models, place = [model], table
    for key in keys:
        place = place[key]
        if isinstance(key, int):
            continue
        annotations = [
            one.model_fields[key].annotation for one in models if key in one.model_fields
        ]
        models = [found for annotation in annotations for found in _models_in(annotation)]
    name = place.get("name") if isinstance(place, dict) else None
    return [one for one in models if _may_be_called(one, name)] or models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _may_be_called(model: type[BaseModel], name: Any) -> bool:
    field = model.model_fields.get("name")
    return field is not None and name in get_args(field.annotation)
