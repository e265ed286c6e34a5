"""What people use up is recorded, limited and shown."""

import asyncio
import itertools
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import JsonValue

from bus.usage import BudgetReached, ModelUsed
from policies.capabilities import Capabilities, shipped_source
from serve import metering
from serve.errors import ModelUnavailable
from storage.usage import Scope, Total
from tests.unit.serve.fakes import MODEL, NOW, UMA, Fakes

HELLO: list[JsonValue] = [{"role": "user", "content": "hello there"}]
CHAT = "/v1/chat/completions"
TODAY = NOW.date()


def used(fakes: Fakes) -> list[ModelUsed]:
    payloads = [stored.payload() for stored in fakes.record.of_kind("model.used", "swarm")]
    return [payload for payload in payloads if isinstance(payload, ModelUsed)]


def limited(fakes: Fakes, tokens: int, **named: int | str) -> Fakes:
    people = json.dumps({"tokens_per_day": tokens, "named": named})
    fakes.policy = Capabilities(shipped_source() + f"\npeople: {people}\n".encode())
    return fakes


def answer(prompt: int, completion: int) -> str:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return json.dumps({"model": MODEL, "choices": [{"message": {}}], "usage": usage})


def chunk(completion: int) -> str:
    usage = {"prompt_tokens": 4, "completion_tokens": completion}
    said = {"index": 0, "delta": {"content": "word "}}
    return json.dumps({"choices": [said], "usage": usage})


async def test_an_answer_is_recorded_with_what_it_cost() -> None:
    fakes = Fakes()
    key = fakes.api_key("uma", "chat.complete")
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "mine-1"}
    async with fakes.client(None) as client:
        assert (await client.post(CHAT, json={"messages": HELLO}, headers=headers)).is_success
    [event] = used(fakes)
    assert event == ModelUsed(
        user=UMA,
        api_key=event.api_key,
        request="mine-1",
        task="chat",
        model=MODEL,
        prompt_tokens=3,
        completion_tokens=2,
        outcome="answered",
        counted="engine",
        asked_at=NOW,
        duration_ms=event.duration_ms,
    )
    assert event.api_key is not None
    [stored] = fakes.record.of_kind("model.used", "swarm")
    assert stored.event.on_behalf_of == UMA


async def test_a_request_id_that_comes_again_counts_again() -> None:
    """The caller chooses it: whoever repeats one would else be answered for nothing."""
    fakes = Fakes()
    async with fakes.client() as client:
        for _ in range(2):
            await client.post(CHAT, json={"messages": HELLO}, headers={"X-Request-ID": "same"})
    assert [event.request for event in used(fakes)] == ["same", "same"]


async def test_a_stream_is_counted_though_the_caller_is_not_shown_it() -> None:
    fakes = Fakes()
    fakes.model.says = [chunk(1), chunk(2)]
    async with fakes.client() as client:
        shown = await client.post(CHAT, json={"messages": HELLO, "stream": True})
    assert "usage" not in shown.text
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert fakes.model.requests[0]["stream_options"] == options
    [event] = used(fakes)
    assert (event.prompt_tokens, event.completion_tokens, event.outcome) == (4, 2, "answered")


async def test_a_stream_that_breaks_costs_what_was_said() -> None:
    fakes = Fakes()
    fakes.model.says = [chunk(1), chunk(2), ModelUnavailable("it died")]
    async with fakes.client() as client:
        await client.post(CHAT, json={"messages": HELLO, "stream": True})
    [event] = used(fakes)
    assert (event.completion_tokens, event.outcome, event.counted) == (2, "failed", "engine")


@pytest.mark.parametrize("said", ['{"error": {"message": "no", "code": 400}}', "", None])
async def test_a_model_that_refused_or_failed_costs_nothing(said: str | None) -> None:
    fakes = Fakes()
    fakes.model.says = [said] if said else [] if said is None else [ModelUnavailable("gone")]
    async with fakes.client() as client:
        assert (await client.post(CHAT, json={"messages": HELLO})).is_error
    assert used(fakes) == []


async def test_the_answer_goes_out_though_the_broker_is_down_and_is_recorded_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metering, "STORED_WITHIN_S", 0.01)
    monkeypatch.setattr(metering, "RETRY_S", 0.01)
    fakes = Fakes()
    fakes.record.down = True
    parts = fakes.parts()
    async with fakes.client(parts=parts) as client:
        assert (await client.post(CHAT, json={"messages": HELLO})).is_success
        assert used(fakes) == []
        fakes.record.down = False
        await parts.meter.flush()
    assert len(used(fakes)) == 1


async def test_nobody_is_answered_while_too_much_waits_to_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metering, "STORED_WITHIN_S", 0.01)
    monkeypatch.setattr(metering, "LAST_WORD_S", 0.01)
    monkeypatch.setattr(metering, "MOST_WAITING", 2)
    fakes = Fakes()
    fakes.record.down = True
    parts = fakes.parts()
    async with fakes.client(parts=parts) as client:
        statuses = [
            (await client.post(CHAT, json={"messages": HELLO})).status_code for _ in range(3)
        ]
    await parts.meter.flush()
    assert statuses == [200, 200, 503]


async def test_who_has_used_up_the_day_is_refused_before_the_model_is_asked() -> None:
    fakes = limited(Fakes(), 1_000)
    fakes.usage.spent_tokens = 990
    async with fakes.client() as client:
        refused = await client.post(CHAT, json={"messages": HELLO, "max_tokens": 50})
        await client.post(CHAT, json={"messages": HELLO, "max_tokens": 50})
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "990 of today's 1,000 tokens" in error["message"]
    midnight = datetime.combine(TODAY + timedelta(days=1), datetime.min.time(), UTC)
    assert int(refused.headers["Retry-After"]) >= (midnight - NOW).total_seconds()
    assert fakes.model.requests == []
    events = [stored.payload() for stored in fakes.record.of_kind("budget.reached", "swarm")]
    told = BudgetReached(user=UMA, day=TODAY, limit=1_000, used=990, in_work=0)
    assert events == [told]  # once, however often they ask


async def test_of_requests_at_once_no_more_are_let_in_than_fit() -> None:
    """Each may use up about 200 of the 1,000, and uses up all of what it was granted."""
    fakes = limited(Fakes(), 1_000)
    gate = asyncio.Event()
    fakes.model.gate = gate
    async with fakes.client() as client:
        body = {"messages": HELLO, "max_tokens": 90}
        extent = 90 + 64 + len(json.dumps(HELLO))
        fakes.model.says = [answer(extent - 90, 90)]
        asked = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(20)]
        for refused in itertools.islice(asyncio.as_completed(asked), 20 - 1_000 // extent):
            assert (await refused).status_code == 429
        gate.set()
        answers = await asyncio.gather(*asked)
        later = await client.post(CHAT, json=body)
    let_in = [each for each in answers if each.is_success]
    assert len(let_in) == 1_000 // extent == len(fakes.model.requests)
    assert later.status_code == 429
    total = sum(event.prompt_tokens + event.completion_tokens for event in used(fakes))
    assert total == len(let_in) * extent <= 1_000


async def test_what_was_reserved_and_not_used_is_given_back() -> None:
    fakes = limited(Fakes(), 1_000)
    fakes.model.says = [answer(3, 2)]
    async with fakes.client() as client:
        for _ in range(20):
            body = {"messages": HELLO, "max_tokens": 700}
            assert (await client.post(CHAT, json=body)).is_success
    assert fakes.counters.used == {(UMA, TODAY): 100}
    assert fakes.counters.held == {(UMA, TODAY): {}}


async def test_an_answer_of_open_length_gets_what_is_left() -> None:
    fakes = limited(Fakes(), 1_000)
    async with fakes.client() as client:
        assert (await client.post(CHAT, json={"messages": HELLO})).is_success
    prompt = 64 + len(json.dumps(HELLO))
    assert fakes.model.requests[0]["max_tokens"] == 1_000 - prompt


async def test_some_have_a_limit_of_their_own() -> None:
    fakes = limited(Fakes(), 1, uma="unlimited")
    body = {"messages": HELLO, "max_tokens": 5}
    async with fakes.client("uma") as uma, fakes.client("ada") as ada:
        assert (await uma.post(CHAT, json=body)).is_success
        assert (await ada.post(CHAT, json=body)).status_code == 429


async def test_counters_that_vanish_are_counted_anew_from_both_logs_and_what_is_in_work() -> None:
    """The audit log has 100, the stream 5 more, and 175 are in work when the counters go."""
    fakes = limited(Fakes(), 1_000)
    fakes.usage.spent_tokens = 100
    gate = asyncio.Event()
    body = {"messages": HELLO, "max_tokens": 60}
    held = 60 + 64 + len(json.dumps(HELLO))
    async with fakes.client() as client:
        fakes.model.says = [answer(3, 2)]
        await client.post(CHAT, json=body)
        fakes.model.gate = gate
        asking = asyncio.create_task(client.post(CHAT, json=body))
        await fakes.model.waiting.wait()
        fakes.counters.vanish()
        refused = await client.post(CHAT, json={"messages": HELLO, "max_tokens": 900})
        assert fakes.counters.used == {(UMA, TODAY): 105}
        assert f"{held:,}" in refused.json()["detail"]
        gate.set()
        await asking
    assert fakes.counters.used == {(UMA, TODAY): 110}
    assert fakes.counters.held == {(UMA, TODAY): {}}


@pytest.mark.parametrize("lost", ["unheard", "unanswered", "refused"])
async def test_what_the_counters_did_not_hear_of_is_booked_in_the_end(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "RETRY_S", 0.01)
    fakes = limited(Fakes(), 1_000)
    fakes.model.says = [answer(30, 20)]
    setattr(fakes.counters, lost, 2)
    parts = fakes.parts()
    async with fakes.client(parts=parts) as client:
        body: dict[str, JsonValue] = {"messages": HELLO, "max_tokens": 60}
        assert (await client.post(CHAT, json=body)).is_success
        await parts.meter.flush()
        refused = await client.post(CHAT, json={"messages": HELLO, "max_tokens": 951})
    assert fakes.counters.used == {(UMA, TODAY): 50}
    assert "50 of today's 1,000 tokens are used up;" in refused.json()["detail"]


async def test_what_waited_too_long_for_the_broker_is_booked_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its reservation has lapsed meanwhile, and others were given the tokens."""
    monkeypatch.setattr(metering, "STORED_WITHIN_S", 0.01)
    monkeypatch.setattr(metering, "RETRY_S", 0.01)
    fakes = limited(Fakes(), 1_000)
    fakes.model.says = [answer(30, 20)]
    parts = fakes.parts()
    async with fakes.client(parts=parts) as client:
        body: dict[str, JsonValue] = {"messages": HELLO, "max_tokens": 60}
        assert (await client.post(CHAT, json=body)).is_success
        fakes.record.down = True
        assert (await client.post(CHAT, json=body)).is_success
        fakes.now += timedelta(seconds=61)
        assert (await client.post(CHAT, json=body)).is_success
        fakes.record.down = False
        await parts.meter.flush()
        assert (await client.post(CHAT, json=body)).is_success
    assert len(used(fakes)) == 4
    assert fakes.counters.used == {(UMA, TODAY): 200}


async def test_nothing_waits_for_counters_that_are_away_but_what_was_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metering, "LAST_WORD_S", 600.0)
    fakes = limited(Fakes(), 1_000)
    fakes.counters.down = True
    parts = fakes.parts()
    async with fakes.client(parts=parts) as client:
        for _ in range(3):
            assert (await client.post(CHAT, json={"messages": HELLO})).status_code == 503
        async with asyncio.timeout(60):
            await parts.meter.flush()


@pytest.mark.parametrize("down", ["counters", "usage"])
async def test_where_nobody_can_count_who_has_a_limit_waits_and_others_go_on(down: str) -> None:
    fakes = limited(Fakes(), 1_000, ada="unlimited")
    getattr(fakes, down).down = True
    async with fakes.client("uma") as uma, fakes.client("ada") as ada:
        waits = await uma.post(CHAT, json={"messages": HELLO})
        goes_on = await ada.post(CHAT, json={"messages": HELLO})
    assert (waits.status_code, goes_on.status_code) == (503, 200)
    assert "Retry-After" in waits.headers


async def test_one_sees_ones_own_usage_and_budget() -> None:
    fakes = limited(Fakes(), 1_000)
    fakes.usage.spent_tokens = 7
    parts = {"day": "2026-01-02", "model": MODEL}
    fakes.usage.found = (
        Total(parts=parts, questions=2, prompt_tokens=4, completion_tokens=3),  # type: ignore[arg-type]
    )
    async with fakes.client() as client:
        told = await client.get("/v1/usage", params={"by": ["day", "model"]})
        explicit = await client.get("/v1/usage", params={"user": UMA, "since": "2026-01-01"})
    numbers = {"questions": 2, "prompt_tokens": 4, "completion_tokens": 3}
    assert told.json() == {
        "since": "2025-12-04",
        "until": "2026-01-02",
        "totals": [{**parts, **numbers}],
        "is_whole": True,
        "budget": {"tokens_per_day": 1_000, "used_today": 7},
    }
    assert explicit.is_success
    assert fakes.usage.asked == [
        (Scope(since=date(2025, 12, 4), until=TODAY, user=UMA), ("day", "model")),
        (Scope(since=date(2026, 1, 1), until=TODAY, user=UMA), ()),
    ]


@pytest.mark.parametrize("whose", ["*", "00000000-0000-0000-0000-000000000001"])
async def test_an_admin_sees_everybodys_usage_and_nobody_else_does(whose: str) -> None:
    fakes = Fakes()
    params = {"user": whose, "by": "user"}
    async with fakes.client("uma") as uma, fakes.client("vic") as vic, fakes.client("ada") as ada:
        for client, status in ((uma, 403), (vic, 403), (ada, 200)):
            assert (await client.get("/v1/usage", params=params)).status_code == status
    assert fakes.usage.asked[0][0].user == (None if whose == "*" else whose)


@pytest.mark.parametrize(
    "params", [{"by": "password"}, {"since": "x"}, {"since": "2026-02-01", "until": "2026-01-01"}]
)
async def test_what_cannot_be_totalled_is_refused(params: dict[str, str]) -> None:
    async with Fakes().client() as client:
        assert (await client.get("/v1/usage", params=params)).status_code == 422
