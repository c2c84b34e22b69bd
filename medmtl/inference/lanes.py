"""Work on several things at a time, in threads, and its results in the order of the things."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

__all__ = ["in_lanes"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    lanes: int,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Yield what is made of every item; the next item is asked for when a lane is free.

    What is begun is finished, also when the results are not wanted any more. Where an item or a
    result cannot be made, no further item is asked for, and the error comes after what was made of
    the others. Only an interrupt (Ctrl-C) does not wait for that: the program that ends itself
    stops it.

    Args:
        items: Asked for in the calling thread.
        work: Called in a lane.
        lanes: Threads.
        prepare: Called once in each lane before any work.

    Raises:
        BaseException: What `items` or `work` raised, the first that was seen.
    """
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="medmtl-lane", initializer=prepare)
    is_awaited = True
    try:
        yield from _in_order(items, lambda item: pool.submit(work, item), lanes)
    except KeyboardInterrupt:
        is_awaited = False
        raise
    finally:
        pool.shutdown(wait=is_awaited)


def _in_order(
    items: Iterable[Item], begin: Callable[[Item], Future[Result]], lanes: int
) -> Iterator[Result]:
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(begin(item))
            del item  # it is its lane's alone
            while len(busy := [one for one in begun if not one.done()]) >= lanes:
                wait(busy, return_when=FIRST_COMPLETED)
            for one in begun:
                if one.done():
                    one.result()  # an error need not wait for its turn
            while begun and begun[0].done():
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    except Exception:
        for one in begun:
            if one.exception() is None:
                yield one.result()
        raise
