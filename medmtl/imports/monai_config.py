"""The config of a MONAI bundle, read as data: numbers, texts and references to them.

In MONAI a text that starts with `$` is Python, `_target_` may name any callable, and `%` copies
from another file. Here nothing is evaluated or imported: only the entries that are needed are read,
and where one of them is more than a literal it is refused by its name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MonaiConfig", "is_of_monai", "target_of"]

_MOST_REFERENCES = 20


class MonaiConfig:
    """A parsed config file.

    Args:
        content: The JSON object.
        name: Of the file, for errors.
    """

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self.content = content
        self.name = name

    @classmethod
    def read(cls, path: Path) -> MonaiConfig:
        """Read a JSON file.

        Raises:
            BundleError: If it is missing, no JSON object, or another format.
        """
        if path.suffix != ".json":
            raise BundleError(
                f"Config {path.name}: found {path.suffix or 'no suffix'!r}, expected .json. Write "
                "the config as JSON."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else "no JSON"
            raise BundleError(
                f"Config {path.name}: cannot be read ({reason}). Give the folder of a MONAI "
                "bundle, with configs/, models/ and configs/metadata.json."
            ) from error
        if not isinstance(content, dict):
            raise BundleError(
                f"Config {path.name}: found {type(content).__name__}, expected a table. Copy it "
                "again."
            )
        return cls(content, path.name)

    def entry(self, *ids: str) -> tuple[str, Any]:
        """The first of these entries that is there, and its id; references are followed.

        Raises:
            BundleError: If none is there, or it refers to nothing or is evaluated.
        """
        for one in ids:
            if one in self.content:
                return one, self.followed(self.content[one], one)
        raise BundleError(
            f"Config {self.name}: found no such entry, expected {' or '.join(ids)}. Name the "
            "config that describes inference with --config."
        )

    def followed(self, value: Any, at: str) -> Any:
        """The value itself, or what a reference `@id` stands for; deeper parts stay as they are.

        Raises:
            BundleError: If it would be evaluated, or refers to nothing.
        """
        for _ in range(_MOST_REFERENCES):
            if not isinstance(value, str) or value[:1] not in "$@%" or not value:
                return value
            if value[0] != "@":
                break
            value = self._looked_up(value[1:], at)
        raise BundleError(
            f"Config {self.name}: found {at} = {str(value)[:80]!r}, which would be evaluated; "
            "expected numbers, texts and lists. Write its value into the config."
        )

    def literal(self, value: Any, at: str) -> Any:
        """The value with every reference in it replaced.

        Raises:
            BundleError: If a part of it would be evaluated or built.
        """
        value = self.followed(value, at)
        if at.count("#") > _MOST_REFERENCES:
            raise BundleError(
                f"Config {self.name}: found {at[:80]} that refers to itself, expected an end. "
                "Write its value into the config."
            )
        if isinstance(value, list):
            return [self.literal(part, f"{at}#{n}") for n, part in enumerate(value)]
        if isinstance(value, dict):
            if "_target_" in value:
                found = str(value["_target_"])[:80]
                message = (
                    f"Config {self.name}: found {at} = {found!r}, an object; expected a literal. "
                    "Write its value into the config."
                )
                raise BundleError(message)
            return {key: self.literal(part, f"{at}#{key}") for key, part in value.items()}
        return value

    def _looked_up(self, name: str, at: str) -> Any:
        value: Any = self.content
        for part in name.replace("::", "#").split("#"):
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise BundleError(
                    f"Config {self.name}: found nothing where {at} refers to {name!r}, expected an "
                    "entry. Complete the config."
                ) from error
        return value


def target_of(value: Any, at: str, config: MonaiConfig) -> str:
    """The last part of a `_target_` of MONAI, such as "SegResNet"; another one as a whole.

    Raises:
        BundleError: If the entry builds nothing.
    """
    if not isinstance(value, dict) or not isinstance(value.get("_target_"), str):
        raise BundleError(
            f"Config {config.name}: found {at} without _target_, expected a network, transform or "
            "inferer. Complete the config."
        )
    target: str = value["_target_"]
    return target.rsplit(".", 1)[-1] if is_of_monai(target) else target


def is_of_monai(target: str) -> bool:
    """Whether a name is MONAI's: bare, or with its path; another one is somebody's own code."""
    return target.startswith("monai.") or "." not in target
