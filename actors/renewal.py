"""Keeping a member's credential fresh: a new one for the same key, well before the old one ends."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from actors.errors import EnrolmentRefused, KeyRetired
from bus.errors import SwarmError
from bus.event import StoredEvent
from bus.identity import Credential
from bus.log import EventLog
from bus.subjects import SYSTEM_RUN, subject_for
from bus.trust_payloads import RotationRequested

logger = structlog.get_logger()

SHARE: Final = 2 / 3
"""Of a credential's life, after which it is renewed."""
JITTER: Final = 0.1
"""Of its life, by which that varies: members that began together do not all come at once."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
LOOK_S: Final = 2.0
"""Between two looks at whether the member is to change to a new key."""

Renew = Callable[[EventLog], Awaitable[None]]
"""Gets another credential for the sender of a log, and has the log go on under it."""


def renewal_due(credential: Credential, chance: float) -> datetime:
    """When a credential is to be renewed.

    Args:
        credential: the one that ends.
        chance: from 0 to 1; 0 is earliest.
    """
    life = credential.expires_at - credential.issued_at
    return credential.issued_at + life * (SHARE + JITTER * (chance - 0.5))


def pause_after(failures: int, left: timedelta) -> float:
    """Seconds until a renewal that failed so often is tried again: several times in what is left.

    Where the credential has ended, no member may do anything: it is tried again and again.
    """
    growing = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)
    return min(growing, max(left.total_seconds() / 4, FIRST_PAUSE_S))


async def keep_fresh(
    log: EventLog, renew: Renew, *, chance: Callable[[], float] = random.random
) -> None:
    """Renew the credential of a log's sender until cancelled.

    What fails is tried again, also after the credential has ended.

    Raises:
        EnrolmentRefused: the authority gives this member no credential any more.
        KeyRetired: the member is to go on under a new key.
    """
    log.connection.is_renewed = True
    while True:
        await _until_due(log, renewal_due(log.sender.credential, chance()))
        failures = 0
        while True:
            try:
                await renew(log)
            except (EnrolmentRefused, KeyRetired):
                raise
            except Exception as error:  # noqa: BLE001 - whatever the authority's process died of
                failures += 1
                left = log.sender.credential.expires_at - datetime.now(UTC)
                pause_s = pause_after(failures, left)
                logger.warning(
                    "member.renewal_failed",
                    member=log.sender.source,
                    reason=str(error) or type(error).__name__,
                    expires_in_s=round(left.total_seconds(), 1),
                    again_in_s=round(pause_s, 1),
                )
                await asyncio.sleep(pause_s)
            else:
                logger.debug("member.renewed", member=log.sender.source)
                break


@asynccontextmanager
async def ended_by(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do the work beside the block; where it fails, the block is cancelled and fails with it."""
    host = asyncio.current_task()
    task = asyncio.ensure_future(work)
    cancelled = 0

    async def interrupt() -> None:
        nonlocal cancelled
        await asyncio.wait((task,))
        while host is not None and not task.cancelled() and task.exception() is not None:
            # Again each second: asyncio.wait_for, which libraries use, may lose a
            # cancellation on Python 3.11.
            cancelled += 1
            host.cancel()
            await asyncio.sleep(1.0)

    watching = asyncio.ensure_future(interrupt())
    try:
        yield
    except asyncio.CancelledError:
        failure = task.exception() if task.done() and not task.cancelled() else None
        if failure is None or host is None:
            raise
        for _ in range(cancelled):
            host.uncancel()
        raise failure from None
    finally:
        watching.cancel()
        task.cancel()
        await asyncio.wait((task, watching))


async def _until_due(log: EventLog, due: datetime) -> None:
    """Return when it is time, or at once when the broker does not take the credential any more."""
    while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
        try:
            async with asyncio.timeout(min(left, LOOK_S)):
                await log.connection.refused.wait()
        except TimeoutError:
            await _see_whether_retired(log)
        else:
            return


async def _see_whether_retired(log: EventLog) -> None:
    subject = subject_for(SYSTEM_RUN, RotationRequested.TYPE, log.sender.key.public)
    try:
        request = await log.next_on(subject, after=0)
    except SwarmError:
        return  # it is looked again, soon
    if isinstance(request, StoredEvent):
        raise KeyRetired(f"{log.sender.source} is to go on under a new key")
