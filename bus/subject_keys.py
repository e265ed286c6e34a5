"""Keys of persons as a process holds them: asked for when needed, and not kept for long."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from bus.custody import Forgotten, SubjectKeyDirectory
from bus.errors import SubjectKeyUnavailable, SwarmError

log = structlog.get_logger()

LIFE_S: Final = 30.0
"""How long a process goes on using a key that was destroyed meanwhile."""
MOST_KEPT: Final = 1_024
RETRY_S: Final = 0.2

Ask = Callable[[str, bool], Awaitable[bytes | None]]
"""Asks for a person's key: (subject, whether to make one) to 32 bytes, or None."""


@dataclass(frozen=True, slots=True)
class _Kept:
    key: bytes | None
    until: float

    def answers(self, *, to_seal: bool, now: float) -> bool:
        return now < self.until and (self.key is not None or not to_seal)


class KeptKeys:
    """Asks whoever has the keys, and remembers the answers for `LIFE_S`."""

    def __init__(
        self,
        ask: Ask,
        *,
        deadline_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember nothing yet.

        Args:
            ask: may fail in any way; it is asked again until `deadline_s` is over.
            deadline_s: how long to try.
            clock: seconds that only grow.
        """
        self._ask = ask
        self._deadline_s = deadline_s
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def key_of(self, subject: str, *, to_seal: bool = False) -> bytes | None:
        """See `bus.vault.SubjectKeys`.

        Raises:
            SubjectKeyUnavailable: nobody answered in time.
        """
        kept = self._kept.get(subject)
        if kept is not None and kept.answers(to_seal=to_seal, now=self._clock()):
            return kept.key
        try:
            async with self._asking.setdefault(subject, asyncio.Lock()):
                kept = self._kept.get(subject)
                if kept is not None and kept.answers(to_seal=to_seal, now=self._clock()):
                    return kept.key
                key = await self._answer(subject, to_seal=to_seal)
                self._keep(subject, key)
                return key
        finally:
            self._asking.pop(subject, None)

    async def _answer(self, subject: str, *, to_seal: bool) -> bytes | None:
        deadline = self._clock() + self._deadline_s
        while True:
            try:
                async with asyncio.timeout(max(deadline - self._clock(), 0)):
                    return await self._ask(subject, to_seal)
            except Exception as error:
                if self._clock() >= deadline or (
                    isinstance(error, SwarmError) and not error.retryable
                ):
                    raise SubjectKeyUnavailable(
                        f"the key of {subject[:64]!r} is not to be had: "
                        f"{str(error) or type(error).__name__}"
                    ) from error
                log.info("subject_key.asked_again", reason=type(error).__name__)
            await asyncio.sleep(RETRY_S)

    def _keep(self, subject: str, key: bytes | None) -> None:
        self._kept.pop(subject, None)
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[subject] = _Kept(key, self._clock() + LIFE_S)


def keys_in(folder: Path) -> KeptKeys:
    """The keys of a folder on this machine, for who may read it."""
    directory = SubjectKeyDirectory(folder)

    async def ask(subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        find = directory.find_or_make if to_seal else directory.find
        found = await asyncio.to_thread(find, subject)
        return None if isinstance(found, Forgotten) else found

    return KeptKeys(ask)
