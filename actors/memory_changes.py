"""What the audit log's events change in the memory, as far as they can be read by now."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from actors.errors import MemorySealed
from actors.memory_events import change_of
from bus.errors import MalformedEvent, SwarmError
from bus.event import Event, StoredEvent
from bus.log import EventLog
from bus.payloads import PolicyAdopted, RunFailed, RunSubmitted
from bus.subjects import TRUST_RUN, subject_for
from policies.capabilities import Capabilities
from storage.memory_change import MemoryChange
from storage.memory_log import MemoryLog, RecordedEvent, Stretch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a stretch of the audit log changes.

    Attributes:
        until: the stream sequence up to which it was read.
        obstacle: why no further for now; None where all of it was read.
    """

    changes: Sequence[MemoryChange]
    until: int
    obstacle: SwarmError | None = None


class MemoryChanges:
    """Opens events, and judges each by the policy that was in force at its place."""

    def __init__(self, event_log: EventLog, recorded: MemoryLog, policy: Capabilities) -> None:
        """Take the parts.

        Args:
            event_log: opens what is sealed, and has the policies.
            recorded: has what runs were to do.
            policy: one that need not be looked for.
        """
        self._log = event_log
        self._recorded = recorded
        self._policies = {policy.digest: policy}

    async def read(self, stretch: Stretch, *, after: int) -> Reading:
        """The changes of a stretch, up to the first event that cannot be read for now.

        Args:
            stretch: of the audit log.
            after: the stream sequence from which it was read.

        Raises:
            SwarmError: something that does not go away by waiting.
        """
        changes: list[MemoryChange] = []
        until = after
        for recorded in stretch.events:
            try:
                change = await self._change(recorded)
            except SwarmError as error:
                if not error.retryable:
                    raise
                return Reading(changes=changes, until=until, obstacle=error)
            until = recorded.stream_sequence
            if change is not None:
                changes.append(change)
        return Reading(changes=changes, until=stretch.until)

    async def _change(self, recorded: RecordedEvent) -> MemoryChange | None:
        try:
            event = await self._opened(recorded)
            await self._know_policy(event.policy)
            objective = await self._objective(event) if event.type == RunFailed.TYPE else ""
            return change_of(
                event,
                place=recorded.stream_sequence,
                stored_at=recorded.stored_at,
                policy_of=self._policies.__getitem__,
                objective=objective,
            )
        except MalformedEvent as error:  # the auditor accepted it; say so and go on
            log.error("memory.unreadable", place=recorded.stream_sequence, reason=str(error))
            return None

    async def _opened(self, recorded: RecordedEvent) -> Event:
        """The event, with nothing in it that is withheld but for good.

        Raises:
            MemorySealed: what it says cannot be read for now, and must not be taken for erased.
        """
        event = Event.parse(recorded.subject, recorded.headers, recorded.data)
        if recorded.content is not None:
            event = event.with_content(recorded.content)
        event = await self._log.opened(event)
        if event.is_withheld and not event.is_erased:
            raise MemorySealed(
                f"event {event.id} of run {event.run} is sealed, and the memory is not given"
                " the key; it and all that follows are kept once it is"
            )
        return event

    async def _objective(self, ended: Event) -> str:
        """What the run was to do that has failed."""
        recorded = await self._recorded.submission(ended.run)
        if recorded is None or ended.is_erased:
            return ""
        event = await self._opened(recorded)
        submitted = event.payload()
        if event.is_erased or not isinstance(submitted, RunSubmitted):
            return ""
        return submitted.objective

    async def _know_policy(self, digest: str) -> None:
        """Read the policies that were adopted, if there is one that is not known."""
        if digest in self._policies:
            return
        subject = subject_for(TRUST_RUN, PolicyAdopted.TYPE)
        async with aclosing(self._log.read(subject)) as adoptions:
            async for received in adoptions:
                adopted = received.payload() if isinstance(received, StoredEvent) else None
                if isinstance(adopted, PolicyAdopted):
                    self._policies[adopted.digest] = Capabilities(adopted.document.encode())
        if digest not in self._policies:
            raise MalformedEvent(f"policy {digest[:16]} was never adopted")
