"""What is done case by case around the steps of a run can be stopped, too."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from medmtl.training.trainer import TrainingStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["followed"]

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0

Item = TypeVar("Item")


def followed(
    items: Iterable[Item], *, what: str, total: int, should_stop: Callable[[], bool]
) -> Iterator[Item]:
    """The items one by one, with a line in the log now and then.

    Args:
        items: What is done for a case is done when the next one is asked for.
        what: Such as "studies prepared".
        total: How many there are.
        should_stop: Asked after every one.

    Raises:
        TrainingStoppedError: If asked to stop; what was done is kept by whoever does it.
    """
    said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if should_stop():
            raise TrainingStoppedError(
                f"stopped, {what}: {number} of {total}. Start the same command again to go on, "
                "with --resume where steps were done."
            )
        if time.monotonic() - said >= LINE_EVERY_S:
            said = time.monotonic()
            logger.info("%s: %d of %d", what, number, total)
