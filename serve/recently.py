"""Answers that are good for a moment, so that not every request asks the database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from storage.errors import StorageUnavailable

V = TypeVar("V")


class Recently(Generic[V]):
    """Keeps what was read for `fresh_s`; many who ask at once read once.

    An answer past half of that is given and read anew meanwhile, so that whoever asks all
    the time never waits.

    While the storage does not answer, the last answer stands for up to `stale_s`: what
    nobody can read, nobody can have changed through it either. An answer of None is not kept.

    Args:
        fresh_s: how long an answer is given again.
        stale_s: how old one may be that stands in.
        most: answers kept; the oldest go first.
        monotonic: seconds that only grow.
    """

    def __init__(
        self,
        *,
        fresh_s: float,
        stale_s: float,
        most: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._most = most
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, V]] = {}
        self._reading: dict[str, asyncio.Future[V | None]] = {}

    async def get(self, key: str, read: Callable[[], Awaitable[V | None]]) -> V | None:
        """The answer for a key, read anew if it is not fresh.

        Raises:
            StorageUnavailable: it cannot be read, and none is known that is young enough.
        """
        at, value = self._known.get(key, (0.0, None))
        age_s = self._monotonic() - at
        if value is not None and age_s < self._fresh_s:
            if age_s > self._fresh_s / 2:
                self._begin(key, read)
            return value
        return await asyncio.shield(self._begin(key, read))

    def forget(self, key: str) -> None:
        """Read it anew next time."""
        self._known.pop(key, None)

    def forget_all(self) -> None:
        """Read everything anew next time."""
        self._known.clear()

    def _begin(
        self, key: str, read: Callable[[], Awaitable[V | None]]
    ) -> "asyncio.Future[V | None]":
        reading = self._reading.get(key)
        if reading is None:
            reading = asyncio.ensure_future(self._read(key, read))
            self._reading[key] = reading
            reading.add_done_callback(lambda done: self._end(key, done))
        return reading

    async def _read(self, key: str, read: Callable[[], Awaitable[V | None]]) -> V | None:
        try:
            value = await read()
        except StorageUnavailable:
            at, known = self._known.get(key, (0.0, None))
            if known is None or self._monotonic() - at > self._stale_s:
                raise
            return known
        self._known.pop(key, None)
        if value is not None:
            self._known[key] = (self._monotonic(), value)
            while len(self._known) > self._most:
                self._known.pop(next(iter(self._known)))
        return value

    def _end(self, key: str, done: "asyncio.Future[V | None]") -> None:
        self._reading.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has seen it; nobody may be left who did
