"""Free words for yes, no and unknown, as people write them into a table of diagnoses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Words", "parse_words"]

_YES = "1 yes y true t positive pos present + ja j oui si sí sim"
_NO = "0 no n false f negative neg absent nein non não nao"
_UNKNOWN = (
    "unknown|unk|u|?|na|n/a|nan|null|missing|not known|not available|not assessed|not stated|"
    "not reported|not done|nd|unbekannt|inconnu|desconocido"
)
_KNOWN: dict[str, bool | None] = {
    **dict.fromkeys(_YES.split(), True),
    **dict.fromkeys(_NO.split(), False),
    **dict.fromkeys(_UNKNOWN.split("|"), None),
    "": None,
}
"""Words that can only be meant one way. "possible", "suspected", "2", "x" or a
dash, which is no to some and not done to others, are not among them."""

_PAIRS = ({"1", "0"}, {"y", "n"}, {"j", "n"}, {"t", "f"}, {"+", "-"})
"""Yes and no as one character, which alone may also be a side, a sex or a grade."""

_MEANINGS = {"yes": True, "no": False, "unknown": None}
_NAMES = {True: "yes", False: "no", None: "unknown"}


def parse_words(options: Sequence[str]) -> dict[str, bool | None]:
    """The user's own words, from `WORD=yes|no|unknown`.

    Raises:
        ConfigError: If an option has another form, or a word two meanings.
    """
    own: dict[str, bool | None] = {}
    for option in options:
        word, _, meaning = option.rpartition("=")
        key = _key(word)
        if not key or meaning.strip().lower() not in _MEANINGS:
            raise ConfigError(f"--word {option!r}: expected WORD=yes, WORD=no or WORD=unknown.")
        value = _MEANINGS[meaning.strip().lower()]
        if own.get(key, value) != value:
            raise ConfigError(f"--word: {key!r} has two meanings.")
        own[key] = value
    return own


class Words:
    """One mapping for the whole table, with a count of what was mapped.

    Args:
        own: The user's words; they go before the known ones.
    """

    def __init__(self, own: Mapping[str, bool | None]) -> None:
        self.own = own
        self.meanings = {**_KNOWN, **own}
        self.counts: Counter[str] = Counter()
        self.ambiguous: Counter[str] = Counter()

    def knows(self, text: str) -> bool:
        """Whether the word has one meaning."""
        return _key(text) in self.meanings

    def are_answers(self, texts: Iterable[str]) -> bool:
        """Whether single characters mean yes and no: not n beside t, nor 1 beside 2 without a 0."""
        single = {key for text in texts if len(key := _key(text)) == 1 and key not in self.own}
        said = {key for key in single if self.says(key)}
        others = {key for key in single if key.isalnum() and not self.knows(key)}
        return not said or any(said == pair or (said < pair and not others) for pair in _PAIRS)

    def is_unknown(self, text: str) -> bool:
        """Whether nothing is said: an empty cell, a dash, or a word for it."""
        key = _key(text)
        return not key.strip("-\u2013\u2014") or self.meanings.get(key, True) is None

    def says(self, text: str) -> bool:
        """Whether the word is a yes or a no."""
        return self.meanings.get(_key(text)) is not None

    def value(self, text: str) -> bool | None:
        """The meaning of a cell; a word without one is unknown, and counted as ambiguous."""
        key = _key(text)
        (self.counts if key in self.meanings else self.ambiguous)[key] += 1
        return self.meanings.get(key)

    def lines(self) -> list[str]:
        """What was understood, one line per meaning, and what was not."""
        lines = []
        for value, name in _NAMES.items():
            used = [key for key in sorted(self.counts) if self.meanings[key] is value]
            if used:
                lines.append(f"{name}: {_counted(used, self.counts)}")
        if self.ambiguous:
            lines.append(f"not understood: {_counted(sorted(self.ambiguous), self.ambiguous)}")
        return lines


def _counted(keys: Iterable[str], counts: Counter[str]) -> str:
    return ", ".join(f"{key[:40] or '(empty)'} ({counts[key]})" for key in keys)


def _key(text: str) -> str:
    """Upper and lower case are one word, and so are 1 and 1.0."""
    word = " ".join(text.split()).casefold()
    return {"1.0": "1", "0.0": "0"}.get(word, word)
