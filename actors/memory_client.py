"""The way from a member of the swarm to the memory: what it may ask, and how it asks."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from actors.memory_question import MOST_FOUND, Findings, Question, SignedQuestion, signed
from bus.log import EventLog
from bus.memory_payloads import Kind
from storage.memory_filter import UNFILTERED, MemoryFilters
from storage.memory_item import MemoryItem, Outcome


class MemoryService(Protocol):
    """Who keeps the memory, as far as members ask; `RayMemory` is it."""

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        """Answer a question, as far as the policy lets the member read.

        Raises:
            QuestionRefused: the member is none, or the question is not its own.
            MemoryUnavailable: nobody answers in time.
        """
        ...

    async def settled(self, event: str, place: int, *, deadline_s: float) -> Outcome:
        """What became of a write, once it was looked at.

        Args:
            event: the id of the event that asked for it.
            place: its sequence in the stream.
            deadline_s: how long to wait.

        Raises:
            MemoryUnavailable: not in time; it takes effect later, or is refused then.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryClient:
    """Asks for one member, under its key.

    Attributes:
        service: who is asked.
        log: whose key signs.
        clock: for the time that stands in a question.
    """

    service: MemoryService
    log: EventLog
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    async def search(
        self,
        text: str,
        namespaces: Sequence[str],
        *,
        run: str,
        kinds: Sequence[Kind] = (),
        filters: MemoryFilters = UNFILTERED,
        limit: int = 10,
        deadline_s: float = 5.0,
    ) -> Findings:
        """Items of these namespaces, and those below, that are about a text; best first.

        Raises:
            QuestionRefused: this member may not ask.
            MemoryUnavailable: nobody answers in time.
        """
        question = Question(
            text=text,
            namespaces=tuple(namespaces),
            run=run,
            kinds=tuple(kinds),
            filters=filters,
            limit=limit,
            asked_at=self.clock(),
        )
        return await self._ask(question, deadline_s)

    async def read(
        self, namespace: str, item: str, *, run: str, deadline_s: float = 5.0
    ) -> MemoryItem | None:
        """An item by its name, None if it is not there or not to be read.

        Raises:
            QuestionRefused: this member may not ask.
            MemoryUnavailable: nobody answers in time.
        """
        question = Question(namespaces=(namespace,), item=item, run=run, asked_at=self.clock())
        found = (await self._ask(question, deadline_s)).found
        return found[0].item if found else None

    async def list(
        self, namespace: str, *, run: str, deadline_s: float = 5.0
    ) -> AsyncGenerator[MemoryItem, None]:
        """The items of a namespace, and of all below it, that may be read; by their names.

        Args:
            namespace: or the beginning of some.
            run: for which it is asked.
            deadline_s: for each hundred that is looked at.

        Raises:
            QuestionRefused: this member may not ask.
            MemoryUnavailable: nobody answers in time.
        """
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            question = Question(
                namespaces=(namespace,),
                run=run,
                after=after,
                limit=MOST_FOUND,
                asked_at=self.clock(),
            )
            findings = await self._ask(question, deadline_s)
            for found in findings.found:
                yield found.item
            after = findings.next

    async def _ask(self, question: Question, deadline_s: float) -> Findings:
        sent = signed(question, self.log.sender.key)
        return await self.service.answer(sent, deadline_s=deadline_s)
