"""What people use up of the models: limited before a model is asked, recorded after it.

Whatever was used up becomes an event, whether the answer was wanted to its end or not. It is
stored before the last byte goes out where the broker answers at once; else the answer goes out
and the event waits here, for as long as it takes. So many wait at most: nobody is answered then.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import uuid4

import structlog
from pydantic import JsonValue

from bus.errors import SwarmError
from bus.event import Draft, derive_id
from bus.subjects import SYSTEM_RUN, kind_of
from bus.usage import BudgetReached, ModelUsed
from policies.caller import Caller
from policies.capabilities import Capabilities
from serve.allowance import Account, Allowances, day_of
from serve.attempts import Appender
from serve.completion import Task
from serve.problems import BudgetUsedUp, Unavailable
from serve.usage import Extent, Listener, Tally, counting, extent_of
from storage.token_budgets import Exhausted, Wanted

log = structlog.get_logger()

Outcome = Literal["answered", "abandoned", "failed"]
STORED_WITHIN_S: Final = 0.5
"""How long an answer's last byte waits for its event. A broker that is well takes milliseconds."""
MOST_WAITING: Final = 1_000
"""Events that wait for the broker: some hundred bytes each."""
RETRY_S: Final = 0.5
LAST_WORD_S: Final = 5.0
"""What a gateway that ends gives the broker for what still waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who asks a model for what.

    Attributes:
        caller: who.
        request: id of the request.
        task: what is asked of the model.
        model: which one.
        body: the request as it came.
    """

    caller: Caller
    request: str
    task: Task
    model: str
    body: Mapping[str, JsonValue]


class Metered:
    """One question: what the model is to be asked, and what it costs. Made by `Meter.admit`."""

    def __init__(
        self,
        meter: "Meter",
        question: Question,
        extent: Extent,
        *,
        event_id: str,
        account: Account | None,
        each: int | None,
    ) -> None:
        self._meter = meter
        self._question = question
        self._extent = extent
        self._event_id = event_id
        self._account = account
        self._each = each
        self._listener = Listener(question.body, question.task)
        self._asked_at = meter.clock()
        self._began = time.monotonic()
        self._kept: asyncio.Task[None] | None = None
        self._ended = False
        granted: dict[str, JsonValue] = {}
        if each is not None and extent.each is None:
            granted = {"max_tokens": each}
        self.body = {**counting(question.body), **granted}
        """What the model is to be asked."""

    def whole(self, document: str) -> None:
        """Hear an answer that is not streamed."""
        self._listener.whole(document)

    def chunk(self, document: str) -> str | None:
        """Hear a chunk; what the caller is shown of it, None for nothing."""
        return self._listener.chunk(document)

    def end(self, outcome: Outcome) -> None:
        """Say how it ended; only the first word counts. It is recorded from here on."""
        if self._ended:
            return
        self._ended = True
        used, heard = self._used(outcome), self._listener.heard
        if not used.total and self._account is None and outcome != "answered":
            return
        event = ModelUsed(
            user=self._question.caller.user,
            api_key=self._question.caller.api_key,
            request=self._question.request,
            task=self._question.task,
            model=self._question.model,
            prompt_tokens=used.prompt,
            completion_tokens=used.completion,
            outcome=outcome,
            counted="estimate" if heard is None else "engine",
            asked_at=self._asked_at,
            duration_ms=round((time.monotonic() - self._began) * 1000),
        )
        is_told = bool(used.total) or outcome == "answered"
        self._kept = self._meter.keep(self._event_id, event if is_told else None, self._account)

    async def recorded(self) -> None:
        """Wait until it is recorded, though not for long."""
        if self._kept is not None:
            await asyncio.wait([self._kept], timeout=STORED_WITHIN_S)

    def _used(self, outcome: Outcome) -> Tally:
        """What the model said, or what nobody can know better.

        Who hangs up on an answer that is not streamed may have had all of it made: he pays for
        it. A model that failed is not paid for what it did not say.
        """
        if self._listener.heard is not None:
            return self._listener.heard
        extent, written = self._extent, self._listener.reckoned
        if outcome == "failed" and not written:
            return Tally()
        if outcome == "abandoned" and not self._question.body.get("stream"):
            each = self._each or extent.each
            written = extent.answers * (extent.unsaid if each is None else each)
        return Tally(prompt=extent.estimate, completion=written)


class Meter:
    """Admits questions, and keeps what they cost.

    Args:
        events: the log.
        policy: what people may use up.
        allowances: what they have used up.
        clock: the time.
    """

    def __init__(
        self,
        events: Appender,
        policy: Capabilities,
        allowances: Allowances,
        clock: Callable[[], datetime],
    ) -> None:
        self._events = events
        self._policy = policy
        self._allowances = allowances
        self.clock = clock
        self._waiting: set[asyncio.Task[None]] = set()

    async def admit(self, question: Question) -> Metered:
        """Let a question be asked.

        Raises:
            BudgetUsedUp: not of this person, today.
            InvalidFields: it does not say in numbers how much it wants.
            Unavailable: too much waits to be recorded.
            StorageUnavailable: the person has a limit, and nobody can count just now.
        """
        if len(self._waiting) >= MOST_WAITING:
            sentence = "What models are asked cannot be recorded just now."
            raise Unavailable(sentence, not_done=True)
        extent = extent_of(question.body, question.task)
        event_id = derive_id(kind_of(ModelUsed.TYPE), uuid4().hex)
        limit = self._policy.tokens_per_day(question.caller.username)
        account, each = None, None
        if limit is not None:
            account = Account(user=question.caller.user, day=day_of(self.clock()), limit=limit)
            each = await self._reserved(account, event_id, extent)
        return Metered(self, question, extent, event_id=event_id, account=account, each=each)

    async def _reserved(self, account: Account, event_id: str, extent: Extent) -> int:
        """Tokens that each answer may have."""
        answers = max(1, extent.answers)
        if extent.each is not None:
            most = fewest = extent.prompt_most + extent.answers * extent.each
        else:
            most, fewest = (extent.prompt_most + answers * each for each in (extent.unsaid, 1))
        wanted = Wanted(most=most, fewest=fewest, step=answers)
        try:
            answer = await self._allowances.reserve(account, event_id, wanted)
        except BaseException:
            # It may be held all the same; nobody waits for that to be put right.
            self.keep(event_id, None, account)
            raise
        if isinstance(answer, Exhausted):
            raise await self._refusal(account, answer, fewest)
        return (answer.tokens - extent.prompt_most) // answers

    async def _refusal(self, account: Account, answer: Exhausted, fewest: int) -> BudgetUsedUp:
        told = BudgetReached(
            user=account.user,
            day=account.day,
            limit=account.limit,
            used=answer.used,
            in_work=answer.in_work,
        )
        once = f"{account.user}/{account.day}/{account.limit}"
        await self._append(derive_id(kind_of(told.TYPE), once), told)
        now = self.clock().astimezone(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        held = f", and answers in work may take {answer.in_work:,}" if answer.in_work else ""
        return BudgetUsedUp(
            f"{answer.used:,} of today's {account.limit:,} tokens are used up{held}; this may take"
            f" {fewest:,}. Ask for fewer (max_tokens), or after midnight (UTC).",
            headers={"Retry-After": str(math.ceil((midnight - now).total_seconds()))},
        )

    def keep(
        self, event_id: str, event: ModelUsed | None, account: Account | None
    ) -> asyncio.Task[None]:
        """Record what was used up, and book it; in a task of our own, whoever goes away."""
        task = asyncio.create_task(self._keep(event_id, event, account))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def flush(self) -> None:
        """Wait for what is not recorded yet; what cannot be is told to our own log."""
        if self._waiting:
            await asyncio.wait(set(self._waiting), timeout=LAST_WORD_S)
        left = set(self._waiting)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _keep(self, event_id: str, event: ModelUsed | None, account: Account | None) -> None:
        used = 0
        if event is not None:
            used = event.prompt_tokens + event.completion_tokens
            await self._stored(event_id, event)
        if account is not None:
            await self._booked(account, event_id, used)

    async def _booked(self, account: Account, event_id: str, used: int) -> None:
        """What was held for nothing is free again by itself; what was used up is booked.

        Also where the counters refuse: a server that is full, or takes no writes for a while,
        says no. So many wait at most (MOST_WAITING).
        """
        while True:
            try:
                await self._allowances.settle(account, event_id, used)
            except SwarmError as error:
                log.warning("usage.not_booked", code=error.code, waiting=len(self._waiting))
                if not used:
                    return
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _stored(self, event_id: str, event: ModelUsed) -> None:
        lost = event.model_dump(mode="json")
        try:
            while True:
                try:
                    await self._append(event_id, event)
                except SwarmError as error:
                    if not error.retryable:
                        log.exception("usage.lost", code=error.code, **lost)
                        return
                    log.warning("usage.waits", code=error.code, waiting=len(self._waiting))
                    await asyncio.sleep(RETRY_S)
                else:
                    return
        except asyncio.CancelledError:
            log.error("usage.lost", code="gateway_ended", **lost)
            raise

    async def _append(self, event_id: str, payload: BudgetReached | ModelUsed) -> None:
        user = payload.user
        draft = Draft(run=SYSTEM_RUN, payload=payload, id=event_id, on_behalf_of=user)
        await self._events.append(draft)
