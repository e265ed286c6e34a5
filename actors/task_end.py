"""Bringing tasks to their end."""

import asyncio
from collections.abc import Sequence
from typing import Final

CANCEL_AGAIN_S: Final = 0.2


async def end_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end; what they failed with is taken note of by nobody else.

    Once is not enough: on Python 3.11 asyncio.wait_for, which nats-py uses, may lose a
    cancellation that comes together with its result (python/cpython#86296).
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()
