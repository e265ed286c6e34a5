"""Carries coroutines from a program without asyncio to an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

from swarm.errors import SwarmClosed

T = TypeVar("T")
CLOSE_TIMEOUT_S: Final = 5.0


class Bridge:
    """One event loop in one thread. Any thread but that one may call."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._closed = False
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(_live(started),), name="swarm-sdk", daemon=True
        )
        self._thread.start()
        self._loop, self._stop = started.result()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; an interrupt from the keyboard cancels it.

        Raises:
            SwarmClosed: the bridge was closed, before or meanwhile.
        """
        future = self._begin(coroutine)
        try:
            return future.result()
        except CancelledError as error:
            raise SwarmClosed from error
        finally:
            future.cancel()

    def iterate(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """The generator's items, one at a time. Leaving early lets go of what it holds."""
        try:
            while (item := self.call(_next(items))) is not None:
                yield item[0]
        finally:
            if not self._closed:
                # Not waited for: the garbage collector may call this on the loop's own thread.
                self._begin(items.aclose())

    def close(self) -> None:
        """Cancel what is going on and end the thread. May be called again."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Hand a coroutine over; the lock sees to it that none comes after the stop."""
        with self._turn:
            if self._closed:
                coroutine.close()
                raise SwarmClosed
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def _live(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Keep the loop running until told to stop; asyncio.run then cancels what is left."""
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


async def _next(items: AsyncGenerator[T, None]) -> tuple[T] | None:
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None
