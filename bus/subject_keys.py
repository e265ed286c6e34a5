"""Keys of persons as a process holds them: asked for when needed, and not kept for long."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from bus.custody import Forgotten, SubjectKeyDirectory
from bus.errors import SubjectKeyRefused, SubjectKeyUnavailable, SwarmError

log = structlog.get_logger()

LIFE_S: Final = 30.0
"""How long a process goes on using a key that was destroyed meanwhile."""
MOST_KEPT: Final = 1_024
RETRY_S: Final = 0.2

Ask = Callable[[str, bool], Awaitable[bytes | None]]
"""Asks for a person's key: (subject, whether to make one) to 32 bytes, or None."""


@dataclass(frozen=True, slots=True)
class _Kept:
    key: bytes | None = field(repr=False)
    until: float

    def answers(self, *, to_seal: bool, now: float) -> bool:
        return now < self.until and (self.key is not None or not to_seal)


@dataclass(slots=True)
class _Turn:
    """Who asks for one key: one at a time, so that the others have the answer too."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


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
            deadline_s: how long one caller waits.
            clock: seconds that only grow.
        """
        self._ask = ask
        self._deadline_s = deadline_s
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._turns: dict[str, _Turn] = {}

    async def key_of(self, subject: str, *, to_seal: bool = False) -> bytes | None:
        """See `bus.vault.SubjectKeys`.

        Raises:
            SubjectKeyUnavailable: nobody answered in time.
            SubjectKeyRefused: the answer is that there is none for this member.
        """
        kept = self._answer(subject, to_seal=to_seal)
        if kept is not None:
            return kept.key
        turn = self._turns.setdefault(subject, _Turn())
        turn.waiting += 1
        try:
            async with asyncio.timeout(self._deadline_s), turn.lock:
                kept = self._answer(subject, to_seal=to_seal)
                return kept.key if kept else await self._asked(subject, to_seal=to_seal)
        except TimeoutError as error:
            raise SubjectKeyUnavailable(
                f"nobody gave the key of {subject[:64]!r} within {self._deadline_s:g} s"
            ) from error
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(subject, None)

    def _answer(self, subject: str, *, to_seal: bool) -> _Kept | None:
        kept = self._kept.get(subject)
        if kept is not None and kept.answers(to_seal=to_seal, now=self._clock()):
            return kept
        return None

    async def _asked(self, subject: str, *, to_seal: bool) -> bytes | None:
        while True:
            until = self._clock() + LIFE_S  # the answer may have been on its way for long
            try:
                key = await self._ask(subject, to_seal)
            except Exception as error:  # noqa: BLE001 - whatever the authority's process died of
                cause = getattr(error, "cause", error)  # an error that crossed Ray tells all of it
                if isinstance(error, SwarmError) and not error.retryable:
                    raise SubjectKeyRefused(
                        f"the key of {subject[:64]!r} is not to be had: {cause}"
                    ) from None
                log.info("subject_key.asked_again", reason=type(error).__name__)
                await asyncio.sleep(RETRY_S)
            else:
                self._keep(subject, _Kept(key, until))
                return key

    def _keep(self, subject: str, kept: _Kept) -> None:
        self._kept.pop(subject, None)
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[subject] = kept


def keys_in(folder: Path) -> KeptKeys:
    """The keys of a folder on this machine, for who may read it."""
    directory = SubjectKeyDirectory(folder)

    async def ask(subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        find = directory.find_or_make if to_seal else directory.find
        found = await asyncio.to_thread(find, subject)
        return None if isinstance(found, Forgotten) else found

    return KeptKeys(ask)
