"""The memory as an agent has it while it works on a step.

What it reads is noted, and goes into its result; what it writes says for which step it was
written, and from what it was made.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

import structlog
from pydantic import JsonValue

from actors.attempt import Attempt
from actors.errors import ItemNameTaken, MemoryUnavailable, QuestionRefused
from actors.memory_client import MemoryClient
from actors.memory_question import MAX_TEXT_CHARS
from bus.event import Draft, derive_id
from bus.memory_payloads import TAKEN, ItemReference, Kind, MemoryDeleted, MemoryWritten
from bus.payloads import Recall
from bus.subjects import is_token
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Outcome

log = structlog.get_logger()

RECALL_S: Final = 3.0
"""How long a step waits for the memory; then it goes on without."""
WRITE_S: Final = 10.0


class AttemptMemory:
    """One attempt's view of the memory.

    Attributes:
        how: how it was searched, "none" as long as it was not.
    """

    def __init__(self, client: MemoryClient, attempt: Attempt) -> None:
        self._client = client
        self._attempt = attempt
        self._read: dict[tuple[str, str], ItemReference] = {}
        self._written = 0
        self.how: Recall = "none"

    @property
    def recalled(self) -> tuple[ItemReference, ...]:
        """Everything that was read, in the order in which it was."""
        return tuple(self._read.values())

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Where an agent looks: in those of its run, its role and its user, and what all share."""
        event, role = self._attempt.assignment.event, self._attempt.assigned.role
        user = event.on_behalf_of
        own = (f"user/{user}",) if user and is_token(user) else ()
        return (f"run/{event.run}", f"role/{role}", *own, "shared")

    async def recall(
        self,
        text: str,
        *,
        namespaces: Sequence[str] = (),
        filters: MemoryFilters = UNFILTERED,
        limit: int = 5,
    ) -> tuple[MemoryItem, ...]:
        """What the memory holds about a text, the best first; nothing while it does not answer.

        Args:
            text: only its beginning counts, if it is long.
            namespaces: where to look, and in all below them; everywhere if there are none.
            filters: what the items must be like.
            limit: most items.
        """
        try:
            findings = await self._client.search(
                text[:MAX_TEXT_CHARS],
                namespaces or self.namespaces,
                run=self._attempt.assignment.event.run,
                filters=filters,
                limit=limit,
                deadline_s=RECALL_S,
            )
        except (MemoryUnavailable, QuestionRefused) as error:
            log.warning("step.without_memory", reason=str(error))
            self.how = "failed"
            return ()
        self.how = findings.recall
        items = tuple(found.item for found in findings.found)
        for item in items:
            self._note(item)
        return items

    async def read(self, namespace: str, item: str) -> MemoryItem | None:
        """An item by its name, None if it is not there or not to be read.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        run = self._attempt.assignment.event.run
        found = await self._client.read(namespace, item, run=run, deadline_s=RECALL_S)
        if found is not None:
            self._note(found)
        return found

    async def list(self, namespace: str, *, limit: int = 1_000) -> tuple[ItemReference, ...]:
        """What there is in a namespace and below it, by name; none of it counts as read.

        Args:
            namespace: such as ``role/<role>``.
            limit: most items.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        run = self._attempt.assignment.event.run
        listed: list[ItemReference] = []
        async with aclosing(self._client.list(namespace, run=run, deadline_s=RECALL_S)) as items:
            async for item in items:
                listed.append(_reference(item))
                if len(listed) >= limit:
                    break
        return tuple(listed)

    async def write(
        self,
        namespace: str,
        item: str,
        content: str,
        *,
        base: int | None = None,
        kind: Kind = "semantic",
        metadata: Mapping[str, JsonValue] | None = None,
        reason: str = "",
        ttl_s: int | None = None,
    ) -> Outcome:
        """Write an item, and what became of that.

        Asked again in another attempt it is another write, unless `base` keeps it from being one.

        Args:
            namespace: ``run/<run>/...`` or ``role/<role>/...``, unless the policy says more.
            item: its name there.
            content: what to remember.
            base: the version that was read; 0 for none, None for whatever is there.
            kind: what it is.
            metadata: more about it.
            reason: why, for people.
            ttl_s: life in seconds.

        Raises:
            ItemNameTaken: no new item is called so; it is not in the log.
            MemoryUnavailable: it is in the log, but not known to have taken effect.
            PublishError: it is not in the log.
        """
        if item in TAKEN:
            raise ItemNameTaken(f"no item of the memory may be called {item!r}")
        payload = MemoryWritten(
            namespace=namespace,
            item=item,
            kind=kind,
            base=base,
            content=content,
            metadata=dict(metadata or {}),
            reason=reason,
            step=self._attempt.assigned.step,
            derived_from=self.recalled,
            ttl_s=ttl_s,
        )
        return await self._settled("memory.written", payload)

    async def delete(
        self, namespace: str, item: str, *, base: int | None = None, reason: str = ""
    ) -> Outcome:
        """Delete an item, and what became of that; its versions so far stay in the log.

        It did not take effect, and was not refused either, where there was nothing to delete.

        Args:
            namespace: as in `write`.
            item: its name there.
            base: the version that was read; None for whatever is there.
            reason: why, for people.

        Raises:
            MemoryUnavailable, PublishError: as in `write`.
        """
        payload = MemoryDeleted(namespace=namespace, item=item, base=base, reason=reason)
        return await self._settled("memory.deleted", payload)

    async def _settled(self, what: str, payload: MemoryWritten | MemoryDeleted) -> Outcome:
        event, claim = self._attempt.assignment.event, self._attempt.claim.event
        self._written += 1
        stored = await self._client.log.append(
            Draft(
                run=event.run,
                payload=payload,
                id=derive_id(what, claim.id, str(self._written)),
                cause=claim.id,
                on_behalf_of=event.on_behalf_of,
                sealed_for=event.sealed_for,
                traceparent=event.traceparent,
            )
        )
        return await self._client.service.settled(
            stored.event.id, stored.stream_sequence, deadline_s=WRITE_S
        )

    def _note(self, item: MemoryItem) -> None:
        self._read[item.namespace, item.item] = _reference(item)


def _reference(item: MemoryItem) -> ItemReference:
    return ItemReference(namespace=item.namespace, item=item.item, version=item.version)
