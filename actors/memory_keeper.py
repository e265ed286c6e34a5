"""The memory's keeper: folds the audit log into the memory, and answers questions to it.

Its place is the one that Postgres committed last. While Postgres or an index is down it waits;
nothing is skipped, and what can be answered without the missing part is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from actors.errors import MemorySealed, MemoryUnavailable, QuestionRefused
from actors.memory_changes import MemoryChanges
from actors.memory_indexer import MemoryIndexer, utc_now
from actors.memory_question import Findings, Found, Question, SignedQuestion, opened
from actors.memory_search import MemorySearch
from actors.worker import SEALED_RETRY_S
from bus.errors import SwarmError
from bus.event import Draft, StoredEvent, derive_id
from bus.identity import Credential
from bus.log import EventLog
from bus.memory_payloads import MemoryRefused
from bus.payloads import RunSubmitted
from bus.subjects import DEFAULT_TENANT, subject_for, tenant_of
from policies.capabilities import Capabilities
from storage.memory import MemoryReader
from storage.memory_item import MemoryItem, Outcome, Scope
from storage.memory_log import MemoryLog
from storage.memory_projection import MemoryProjection, Refusal
from storage.run_owners import RunOwnerReader

log = structlog.get_logger()

RETRY_S: Final = 0.5
LOOK_S: Final = 5.0
"""Between two looks at an audit log that did not say that it grew."""
EXPIRE_S: Final = 30.0
TOLD_AT_ONCE: Final = 64
SETTLED_S: Final = 10.0
MOST_OWNERS: Final = 4_096
GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStores:
    """Where the memory is kept."""

    log: MemoryLog
    projection: MemoryProjection
    reader: MemoryReader
    owners: RunOwnerReader
    indexer: MemoryIndexer
    search: MemorySearch


class MemoryKeeper:
    """One writer of the memory, and who answers for it."""

    def __init__(
        self,
        event_log: EventLog,
        stores: MemoryStores,
        policy: Capabilities,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Take the parts.

        Args:
            event_log: opens what is sealed, knows whom the authority vouches for, and is told
                of writes that did not take effect.
            stores: where the memory is kept.
            policy: what each role may read.
            clock: for what has expired.
        """
        self._log = event_log
        self._stores = stores
        self._policy = policy
        self._changes = MemoryChanges(event_log, stores.log, policy)
        self._clock = clock
        self._moved = asyncio.Condition()
        self._place = 0
        self._changed = asyncio.Event()
        self._refused = asyncio.Event()
        self._owners: dict[str, str] = {}
        self.is_following = True
        """Whether what is written takes effect; not while an event cannot be read or kept."""
        self.is_indexing = True
        """Whether the indexes follow; not while one of them is away."""

    async def run(self, grew: asyncio.Event) -> None:
        """Keep the memory until cancelled.

        Args:
            grew: is set when there is more in the audit log.

        Raises:
            SwarmError: something that does not go away by waiting.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._patiently("memory.waits", self._follow(grew)))
            group.create_task(self._patiently("memory.index_waits", self._index()))
            group.create_task(self._patiently("memory.refusals_wait", self._refusals()))
            group.create_task(self._patiently("memory.expiry_waits", self._expire()))

    async def settled(self, event: str, place: int, *, deadline_s: float = SETTLED_S) -> Outcome:
        """What became of a write, once it was looked at.

        Args:
            event: the id of the event that asked for it.
            place: its sequence in the stream.
            deadline_s: how long to wait for that.

        Raises:
            MemoryUnavailable: not within the deadline, or Postgres does not say; the write stands
                in the log and takes effect later, or is refused then.
        """
        try:
            async with asyncio.timeout(deadline_s), self._moved:
                await self._moved.wait_for(lambda: self._place >= place)
        except TimeoutError as error:
            raise MemoryUnavailable(f"event {event} was not looked at in time") from error
        with _or_unavailable():
            return await self._stores.reader.outcome(event)

    async def answer(self, sent: SignedQuestion) -> Findings:
        """Answer a question of a member, as far as the policy lets it read.

        Raises:
            QuestionRefused: the member is none, or the question is not its own.
            MemoryUnavailable: Postgres or the log does not answer.
        """
        with _or_unavailable():
            return await self._answer(sent)

    async def _answer(self, sent: SignedQuestion) -> Findings:
        now = self._clock()
        question = opened(sent, now=now)
        credential = await self._log.vouched(sent.public_key)
        if credential is None:
            raise QuestionRefused(f"nobody vouches for {sent.public_key[:64]}")
        user = await self._owner_of(question.run, credential)
        may_see = self._sight(credential, question, user)
        tenant = tenant_of(question.run) or DEFAULT_TENANT
        if question.item is not None:
            return await self._named(tenant, question, question.item, may_see)
        scope = Scope(tenant=tenant, namespaces=question.namespaces, kinds=question.kinds or None)
        if question.after is not None:
            return await self._listed(scope, question.after, question.limit, may_see)
        return await self._stores.search.find(
            question.text,
            scope,
            now=now,
            limit=question.limit,
            may_see=may_see,
            filters=question.filters,
        )

    async def reindex(self) -> int:
        """Make the vector index and the sessions anew from Postgres; of how many items."""
        count = await self._stores.indexer.again()
        self._changed.set()
        return count

    async def rebuild(self) -> None:
        """Make all of it anew from the audit log; returns when everything is begun.

        Raises:
            MemorySealed: the key to an event is refused; nothing is changed.
        """
        await self._look_through()
        await self._stores.projection.clear()
        await self._stores.indexer.again()
        async with self._moved:
            self._place = 0
        await self._catch_up()

    async def _named(
        self, tenant: str, question: Question, item: str, may_see: Callable[[MemoryItem], bool]
    ) -> Findings:
        [namespace, *others] = question.namespaces
        if others:
            raise QuestionRefused("an item is read from one namespace")
        found = await self._stores.reader.read(tenant, namespace, item, now=self._clock())
        if found is None or not may_see(found):
            return Findings()
        return Findings(found=(Found(item=found, score=1.0),))

    async def _listed(
        self,
        scope: Scope,
        after: tuple[str, str],
        limit: int,
        may_see: Callable[[MemoryItem], bool],
    ) -> Findings:
        """What of the next items may be seen; perhaps none of them, though more follow."""
        items = await self._stores.reader.page(scope, now=self._clock(), after=after, limit=limit)
        return Findings(
            found=tuple(Found(item=item, score=1.0) for item in items if may_see(item)),
            next=(items[-1].namespace, items[-1].item) if len(items) == limit else None,
        )

    def _sight(
        self, credential: Credential, question: Question, user: str
    ) -> Callable[[MemoryItem], bool]:
        """Which items the asking role may read while it works for the run."""

        def may_see(item: MemoryItem) -> bool:
            refusal = self._policy.memory_refusal(
                credential.role, "read", item.namespace, run=question.run, user=user
            )
            return refusal is None

        return may_see

    async def _owner_of(self, run: str, credential: Credential) -> str:
        """Who asked for a run; the gateway asks for people itself, and says where to look."""
        if credential.role == GATEWAY:
            return ""
        if run not in self._owners:
            user = await self._submitter(run)
            if user is None:
                return ""
            if len(self._owners) >= MOST_OWNERS:
                self._owners.pop(next(iter(self._owners)))
            self._owners[run] = user
        return self._owners[run]

    async def _submitter(self, run: str) -> str | None:
        """Who submitted a run, by the audit log or, before it is audited, by the stream."""
        owner = await self._stores.owners.of(run)
        if owner is not None:
            return owner.user
        submitted = await self._log.last_on(subject_for(run, RunSubmitted.TYPE))
        return submitted.event.on_behalf_of if isinstance(submitted, StoredEvent) else None

    async def _patiently(self, waits: str, work: "_Work") -> None:
        """Do it over and over, with a pause where it fails for a while."""
        told = ""
        while True:
            try:
                await work()
            except SwarmError as error:
                if not error.retryable or self._log.connection.is_closed:
                    raise
                if str(error) != told:
                    log.warning(waits, reason=str(error))
                told = str(error)
                await asyncio.sleep(SEALED_RETRY_S if isinstance(error, MemorySealed) else RETRY_S)
            else:
                told = ""

    def _follow(self, grew: asyncio.Event) -> "_Work":
        async def follow() -> None:
            await _set_within(LOOK_S, grew)
            try:
                await self._catch_up()
            except SwarmError:
                self.is_following = False
                raise
            self.is_following = True

        return follow

    def _index(self) -> "_Work":
        async def index() -> None:
            self.is_indexing = False
            while await self._stores.indexer.pass_on():
                pass
            self.is_indexing = True
            await _set_within(LOOK_S, self._changed)

        return index

    def _refusals(self) -> "_Work":
        async def tell() -> None:
            await self._tell()
            await _set_within(LOOK_S, self._refused)

        return tell

    def _expire(self) -> "_Work":
        async def expire() -> None:
            if await self._stores.projection.expire(self._clock()):
                self._changed.set()
            await asyncio.sleep(EXPIRE_S)

        return expire

    async def _catch_up(self) -> None:
        """Apply what the audit log holds by now, in order: what cannot be read holds up the rest.

        Raises:
            MemorySealed: the key to an event is refused.
        """
        place = await self._stores.projection.place()
        while True:
            stretch = await self._stores.log.after(place)
            reading = await self._changes.read(stretch, after=place)
            if reading.until > place:
                place = await self._stores.projection.apply(
                    reading.changes, after=place, until=reading.until
                )
            async with self._moved:
                self._place = place
                self._moved.notify_all()
            if place >= stretch.until and not stretch.events:
                return
            self._changed.set()
            self._refused.set()
            if reading.obstacle is not None:
                raise reading.obstacle

    async def _look_through(self) -> None:
        """See that all of the audit log can be read by now; MemorySealed if not."""
        place = 0
        while (stretch := await self._stores.log.after(place)).events:
            reading = await self._changes.read(stretch, after=place)
            if reading.obstacle is not None:
                raise reading.obstacle
            place = stretch.until

    async def _tell(self) -> None:
        """Put on record which writes did not take effect, once."""
        while refusals := await self._stores.projection.untold(TOLD_AT_ONCE):
            drafts = [(refusal, _draft_of(refusal)) for refusal in refusals]
            known = await self._stores.projection.recorded(
                [(refusal, draft.id) for refusal, draft in drafts]
            )
            for refusal, draft in drafts:
                if refusal.event not in known:
                    await self._log.append(draft)
            await self._stores.projection.told(refusals)


_Work = Callable[[], Awaitable[None]]


@contextmanager
def _or_unavailable() -> Iterator[None]:
    """Turns what goes away by waiting into what those who ask reckon with.

    Raises:
        MemoryUnavailable: for each of these.
    """
    try:
        yield
    except SwarmError as error:
        if not error.retryable:
            raise
        raise MemoryUnavailable(f"the memory cannot say now: {error}") from error


async def _set_within(seconds: float, event: asyncio.Event) -> None:
    """Wait until it is set, for so long: a word may have been lost. Then it is not set any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()


def _draft_of(refusal: Refusal) -> Draft:
    return Draft(
        run=refusal.run,
        payload=MemoryRefused(
            refused=refusal.event,
            code=refusal.code,
            namespace=refusal.namespace,
            item=refusal.item,
            base=refusal.base,
            version=refusal.version,
        ),
        id=derive_id("memory.refused", refusal.event),
        cause=refusal.event,
        on_behalf_of=refusal.subject,
    )
