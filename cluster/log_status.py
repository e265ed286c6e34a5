"""How the log of a running swarm stands: how far it is audited, how much work waits, what is lost.

Asked from outside of the stream and the audit log, not of the auditor: it must show as well
that there is no auditor.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from actors.watch import Glance, compare_stretch, glance
from bus.connection import Connection
from bus.errors import MalformedEvent, SwarmError
from bus.event import StoredEvent
from bus.payloads import LogLost
from bus.received import fetched
from bus.scan import QueueDepth, queue_depth
from bus.subjects import SYSTEM_RUN, subject_for
from cluster.log_servers import of_running, reading
from cluster.settings import MiB, Settings
from cluster.state import State, no_address
from cluster.swaps import swaps_in
from cluster.witness_status import WitnessStatus, witness_statuses
from policies.capabilities import queue_name
from storage.answers import latest_answers
from storage.audit_reader import AuditReader
from storage.postgres import open_pool
from storage.witnessed import WitnessStore

LIMIT_S: Final = 5.0
_SAMPLES: Final = 3
_MOST_ALARMS: Final = 200
_ANSWERS: Final = 500
"""The latest, which are looked through for a model that was swapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """What was found.

    Attributes:
        last_sequence: of the stream; audited: how far the audit log has come in it.
        stored_bytes: of the stream; max_bytes its bound, None without one.
        queues: by role, the assignments that wait and those in work.
        lost: how many audited events the stream is known to have lost; 0 if none.
        set_back: whether the stream goes on from an earlier state, and auditing pauses.
        witnesses: how it stands with each of them.
        swaps: runs in which one name stood for different models.
        error: why this could not be found out; empty if it could.
        latency_ms: how long it took to find out.
    """

    last_sequence: int = 0
    audited: int = 0
    stored_bytes: int = 0
    max_bytes: int | None = None
    queues: Mapping[str, QueueDepth] | None = None
    lost: int = 0
    set_back: bool = False
    witnesses: tuple[WitnessStatus, ...] = ()
    swaps: tuple[str, ...] = ()
    error: str = ""
    latency_ms: float = 0.0

    @property
    def lag(self) -> int:
        """Sequences of the stream that are not audited yet."""
        return max(0, self.last_sequence - self.audited)

    @property
    def healthy(self) -> bool:
        """Whether nothing is known to be lost."""
        return not (self.lost or self.set_back or self.error)

    def describe(self) -> str:
        """The same in a line."""
        if self.error:
            return self.error
        if self.set_back:
            return "the stream was set back to an earlier state: swarm down, then swarm recover"
        if self.lost:
            return f"events lost: {self.lost}; swarm down, then swarm recover"
        bound = "" if self.max_bytes is None else f" of {self.max_bytes / MiB:.0f}"
        swapped = f"; another model under the same name: {self.swaps[0]}" if self.swaps else ""
        return (
            f"audited {self.audited} of {self.last_sequence}, "
            f"{self.stored_bytes / MiB:.1f}{bound} MiB, {self._work()}{swapped}"
        )

    def document(self) -> dict[str, object]:
        """The same as a document."""
        return {
            "healthy": self.healthy,
            "last_sequence": self.last_sequence,
            "audited": self.audited,
            "audit_lag": self.lag,
            "stored_bytes": self.stored_bytes,
            "max_bytes": self.max_bytes,
            "lost": self.lost,
            "set_back": self.set_back,
            "queues": {
                role: {"waiting": depth.waiting, "in_work": depth.in_work}
                for role, depth in (self.queues or {}).items()
            },
            "witnesses": [witness.document() for witness in self.witnesses],
            "swapped_models": list(self.swaps),
            "error": self.error,
        }

    def _work(self) -> str:
        busy = [
            f"{role} {depth.waiting}+{depth.in_work}"
            for role, depth in (self.queues or {}).items()
            if depth.waiting or depth.in_work
        ]
        return f"waiting+in work: {', '.join(busy)}" if busy else "no work waits"


async def log_status(settings: Settings, state: State) -> LogStatus:
    """Ask; takes `LIMIT_S` at most and never raises for a sick part."""
    if not state.addresses.nats:
        return LogStatus(error=no_address(state))
    began = time.perf_counter()
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await _ask(settings, state)
        return replace(found, latency_ms=(time.perf_counter() - began) * 1000)
    except TimeoutError:
        return LogStatus(error=f"no answer within {LIMIT_S:g} s")
    except (SwarmError, OSError) as error:
        return LogStatus(error=str(error))


async def _ask(settings: Settings, state: State) -> LogStatus:
    servers = await asyncio.to_thread(of_running, settings, state)
    async with open_pool(servers.database_url, max_size=1) as pool, reading(servers) as connection:
        audit = AuditReader(pool)
        if not await audit.exists():
            return LogStatus(error="nothing was audited yet")
        seen = await glance(connection, audit)
        stream = seen.state
        roles = servers.domain(state.workers, state.bundle).policy().worker_roles
        return LogStatus(
            last_sequence=0 if stream is None else stream.last_sequence,
            audited=seen.reach.stream_sequence,
            stored_bytes=0 if stream is None else stream.stored_bytes,
            max_bytes=None if stream is None else stream.max_bytes,
            queues=await _queues(connection, roles),
            lost=await _still_lost(connection, audit, seen),
            set_back=seen.rewound,
            swaps=tuple(swaps_in(await latest_answers(pool, _ANSWERS))),
            witnesses=tuple(
                witness_statuses(
                    settings.witness_addresses(),
                    await WitnessStore(pool).states(),
                    seen.reach.size,
                )
            ),
        )


async def _queues(connection: Connection, roles: tuple[str, ...]) -> dict[str, QueueDepth]:
    depths = await asyncio.gather(*(queue_depth(connection, queue_name(role)) for role in roles))
    found = zip(roles, depths, strict=True)
    return {role: depth for role, depth in found if depth is not None}


async def _still_lost(connection: Connection, audit: AuditReader, seen: Glance) -> int:
    """What the alarms counted whose events still are not there, at most."""
    counts = [0 if seen.last is None else 1]
    async for told in _alarms(connection):
        for missing in told.missing[:_SAMPLES]:
            at = missing.stream_sequence
            if (await compare_stretch(connection, audit, after=at - 1, until=at)).lost:
                counts.append(told.count)
                break
    return max(counts)


async def _alarms(connection: Connection) -> AsyncIterator[LogLost]:
    """The alarms in the stream; believed only so far as to look where they point."""
    subject, position = subject_for(SYSTEM_RUN, LogLost.TYPE), 0
    for _ in range(_MOST_ALARMS):
        message = await connection.next_message(subject, after=position)
        if message is None:
            return
        received = fetched(message)
        position = received.stream_sequence
        with suppress(MalformedEvent):
            payload = received.payload() if isinstance(received, StoredEvent) else None
            if isinstance(payload, LogLost):
                yield payload
