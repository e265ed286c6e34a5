"""The work queue of a role: each assignment to one agent, leased, kept alive, handed over.

Delivery: at least once. An assignment is redelivered when its lease runs out without a
heartbeat, and counted each time; the count begins anew with a queue that was made anew.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg

from bus.errors import BusUnreachable, PublishUnconfirmed
from bus.event import StoredEvent
from bus.log import EventLog
from bus.pull import pull
from bus.received import RefusedEvent

log = structlog.get_logger()

HEARTBEATS_PER_LEASE: Final = 3
RETRY_S: Final = 0.1
_ACK: Final = "+ACK"
_NAK: Final = "-NAK"
_TERM: Final = "+TERM"
_IN_PROGRESS: Final = "+WPI"
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A verified assignment, and how often this queue has handed it out, this time included."""

    assignment: StoredEvent
    deliveries: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Done: its result is in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Not done; deliver again after a delay."""

    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """Never deliver again."""

    reason: str


Verdict = Ack | Retry | Dead
Handler = Callable[[Delivery], Awaitable[Verdict]]


class WorkQueue:
    """Takes assignments one at a time and hands each to a handler."""

    def __init__(self, event_log: EventLog, queue: str, *, lease_s: float) -> None:
        self._log = event_log
        self._queue = queue
        self._heartbeat_s = lease_s / HEARTBEATS_PER_LEASE

    async def run(self, handle: Handler) -> None:
        """Serve the queue until cancelled. A cancelled assignment is given back at once.

        Raises:
            ConsumptionDenied: the policy does not let this role take assignments.
            BusUnreachable: the connection was closed on our side.
        """
        self._log.require("work")
        while True:
            try:
                messages = pull(self._log.connection, self._queue, batch=1)
                async with aclosing(messages):
                    async for message in messages:
                        await self._serve(message, handle)
            except (BusUnreachable, PublishUnconfirmed) as error:
                if self._log.connection.is_closed:
                    raise
                log.info("work.queue_restarts", queue=self._queue, reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _serve(self, message: Msg, handle: Handler) -> None:
        heartbeat = asyncio.create_task(self._keep_lease(message))
        try:
            verdict = await self._judged(message, handle)
        except asyncio.CancelledError:
            with suppress(BusUnreachable):  # then the lease runs out
                await self._answer(message, Retry(delay_s=0))
            raise
        finally:
            heartbeat.cancel()
            await asyncio.wait((heartbeat,))
        await self._answer(message, verdict)

    async def _judged(self, message: Msg, handle: Handler) -> Verdict:
        received = await self._log.check(message)
        if isinstance(received, RefusedEvent):
            await self._log.record_refusal(received)
            return Dead(reason=received.error.code)
        deliveries = message.metadata.num_delivered
        return await handle(Delivery(assignment=received, deliveries=deliveries))

    async def _keep_lease(self, message: Msg) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                await self._say(message, _IN_PROGRESS)
            except BusUnreachable as error:
                log.warning("work.heartbeat_failed", queue=self._queue, error=str(error))

    async def _answer(self, message: Msg, verdict: Verdict) -> None:
        match verdict:
            case Ack():
                await self._say(message, _ACK)
            case Retry(delay_s=delay_s):
                delay = json.dumps({"delay": int(delay_s * _NANOSECONDS)}) if delay_s else ""
                await self._say(message, f"{_NAK} {delay}".rstrip())
            case Dead():
                await self._say(message, _TERM)

    async def _say(self, message: Msg, what: str) -> None:
        """Answer through the client of now: the one that brought it may have been replaced."""
        try:
            await self._log.connection.client.publish(message.reply, what.encode())
        except (nats.errors.Error, OSError) as error:
            raise BusUnreachable(f"could not answer an assignment: {error}") from error
