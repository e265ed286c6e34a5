"""Tokens that people may still use up, against a plain sum of what they used up."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus.event import Draft
from bus.subjects import SYSTEM_RUN
from bus.usage import ModelUsed
from serve.allowance import Account, Allowances
from storage.errors import StorageUnavailable
from storage.token_budgets import Exhausted, Reserved, Wanted
from tests.unit.serve.fake_usage import MemoryCounters, MemoryUsage
from tests.unit.serve.fakes import MODEL, NOW, UMA, MemoryLog

LIMIT = 1_000
ACCOUNT = Account(user=UMA, day=NOW.date(), limit=LIMIT)


class AllowanceMachine(RuleBasedStateMachine):
    """Answers begin and end in any order and as late as they like; counters fail and vanish."""

    def __init__(self) -> None:
        super().__init__()
        self.counters, self.record = MemoryCounters(), MemoryLog()
        self.now = NOW.astimezone(UTC)
        self.allowances = Allowances(
            counters=self.counters,
            books=MemoryUsage(),
            stream=self.record,
            clock=lambda: self.now,
            life_s=10.0,
        )
        self.runner = asyncio.Runner()
        self.asked = self.used = 0
        self.in_work: list[str] = []
        self.unbooked: dict[str, int] = {}

    def teardown(self) -> None:
        self.runner.close()

    @rule(most=st.integers(1, 300))
    def ask(self, most: int) -> None:
        self.asked += 1
        name = f"answer-{self.asked}"
        wanted = Wanted(most=most, fewest=1)
        given = self.runner.run(self.allowances.reserve(ACCOUNT, name, wanted))
        if isinstance(given, Reserved):
            self.in_work.append(name)

    @rule(
        data=st.data(),
        tokens=st.integers(0, 50),
        lost=st.sampled_from(["none", "unheard", "unanswered"]),
    )
    @precondition(lambda self: self.in_work)
    def answer(
        self, data: st.DataObject, tokens: int, lost: Literal["none", "unheard", "unanswered"]
    ) -> None:
        name = data.draw(st.sampled_from(self.in_work))
        self.in_work.remove(name)
        self.runner.run(self.record.append(_event(name, tokens, self.now)))
        self.used += tokens
        if lost != "none":
            setattr(self.counters, lost, 1)
        self.settle(name, tokens)

    @rule(data=st.data())
    @precondition(lambda self: self.unbooked)
    def settle_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.unbooked)))
        self.settle(name, self.unbooked[name])

    def settle(self, name: str, tokens: int) -> None:
        self.unbooked[name] = tokens
        with suppress(StorageUnavailable):
            self.runner.run(self.allowances.settle(ACCOUNT, name, tokens))
            del self.unbooked[name]

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def vanish(self) -> None:
        self.counters.vanish()

    @invariant()
    def what_is_booked_is_what_was_used_up(self) -> None:
        if self.unbooked:
            return
        wanted = Wanted(most=LIMIT * 1_000, fewest=LIMIT * 1_000)
        told = self.runner.run(self.allowances.reserve(ACCOUNT, "too much", wanted))
        assert isinstance(told, Exhausted)
        assert told.used == self.used


def _event(name: str, tokens: int, now: datetime) -> Draft:
    used = ModelUsed(
        user=UMA,
        api_key=None,
        request=name,
        task="chat",
        model=MODEL,
        prompt_tokens=tokens,
        completion_tokens=0,
        outcome="answered",
        counted="engine",
        asked_at=now.replace(hour=0, minute=0),
        duration_ms=1,
    )
    return Draft(run=SYSTEM_RUN, payload=used, id=name, on_behalf_of=UMA)


TestAllowance = AllowanceMachine.TestCase
TestAllowance.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
