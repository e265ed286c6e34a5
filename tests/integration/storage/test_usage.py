"""What was used up, in a real Postgres: written with the audit log, and totalled."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime

from pydantic import JsonValue

from bus.usage import ModelUsed
from storage.audit import AuditStore
from storage.leaf import AuditRecord
from storage.postgres import Pool, bundled_migrations
from storage.usage import MOST, Scope, Spent, UsageReader
from tests.integration.storage.test_audit import NOON, SIGN, record

DAY = date(2026, 1, 1)
SCOPE = Scope(since=DAY, until=DAY)


def question(sequence: int, user: str, prompt: int, completion: int, **more: object) -> AuditRecord:
    used = ModelUsed.model_validate(
        {
            "user": user,
            "request": "r",
            "task": "chat",
            "model": "m",
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "outcome": "answered",
            "counted": "engine",
            "asked_at": datetime(2026, 1, 1, 23, 59, tzinfo=UTC),
            "duration_ms": 5,
            **more,
        }
    )
    data = used.model_dump_json().encode()
    return replace(record(sequence, run="swarm"), type=ModelUsed.TYPE, data=data)


def step(sequence: int, agent: str, usage: JsonValue, *, failed: bool = False) -> AuditRecord:
    kind = "swarm.step.failed.v1" if failed else "swarm.step.completed.v1"
    data = json.dumps({"model": "m", "usage": usage, "answer": {"x": "\0"}}).encode()
    headers = (("ce-type", kind), ("ce-onbehalfof", "uma"))
    return replace(record(sequence), type=kind, data=data, raw_headers=headers, source_agent=agent)


STEP: dict[str, JsonValue] = {"prompt_tokens": 100, "completion_tokens": 10}
LOG = [
    question(1, "uma", 5, 2),
    question(2, "uma", 7, 3, model="other"),
    question(3, "ada", 11, 4, api_key="k1"),
    question(4, "uma", 1_000, 0, asked_at=datetime(2026, 1, 2, tzinfo=UTC)),
    replace(question(5, "uma", 9, 9), verdict="refused", reason_code="bad_signature"),
    step(6, "coder-1", STEP),
    step(7, "coder-2", STEP, failed=True),
    step(8, "coder-2", None, failed=True),
    replace(record(9), type=ModelUsed.TYPE, data=b'{"user": 7}'),
    replace(question(10, "ada", 0, 0), data=b'{"asked_at": "9999-12-31T23:59:59-12:00"}'),
]


async def test_usage_is_totalled_by_what_was_asked_for(pool: Pool) -> None:
    await AuditStore(pool).append(LOG, SIGN)
    reader = UsageReader(pool)
    [everything] = await reader.totals(SCOPE, ())
    assert (everything.questions, everything.prompt_tokens) == (5, 223)
    by_user = await reader.totals(SCOPE, ("user", "task"))
    assert [(*t.parts.values(), t.prompt_tokens, t.completion_tokens) for t in by_user] == [
        ("ada", "chat", 11, 4),
        ("uma", "chat", 12, 5),
        ("uma", "step", 200, 20),
    ]
    agents = await reader.totals(replace(SCOPE, run="r1"), ("run", "role", "agent"))
    assert [tuple(t.parts.values()) for t in agents] == [
        ("r1", "coder", "coder-1"),
        ("r1", "coder", "coder-2"),
    ]
    [next_day] = await reader.totals(
        Scope(since=date(2026, 1, 2), until=date(2026, 1, 9)), ("day",)
    )
    assert (next_day.parts, next_day.prompt_tokens) == ({"day": "2026-01-02"}, 1_000)
    assert await reader.totals(replace(SCOPE, user="nobody"), ("day",)) == ()


async def test_what_a_user_spent_is_what_he_asked_the_gateway(pool: Pool) -> None:
    await AuditStore(pool).append(LOG, SIGN)
    reader = UsageReader(pool)
    assert await reader.spent("uma", DAY) == Spent(tokens=17, stream_sequence=10)
    assert await reader.spent("uma", DAY, but=["id-2"]) == Spent(tokens=7, stream_sequence=10)
    assert await reader.spent("vic", DAY) == Spent(tokens=0, stream_sequence=10)


async def test_what_nobody_can_have_used_up_hides_no_total(pool: Pool) -> None:
    all_there_are = 2**63 - 1
    every: JsonValue = {"prompt_tokens": all_there_are, "completion_tokens": all_there_are}
    hostile = [step(1, "coder-1", every), step(2, "coder-2", every)]
    asked = [question(n, "uma", all_there_are, all_there_are) for n in (3, 4)]
    await AuditStore(pool).append([*hostile, *asked], SIGN)
    reader = UsageReader(pool)
    for by in ((), ("agent",)):
        for total in await reader.totals(SCOPE, by):
            assert (total.prompt_tokens, total.completion_tokens) == (MOST, MOST)
    assert await reader.spent("uma", DAY) == Spent(tokens=MOST, stream_sequence=4)


async def test_a_user_whose_name_no_index_could_hold_stops_no_audit(pool: Pool) -> None:
    name = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(100))
    headers = (("ce-type", "swarm.step.completed.v1"), ("ce-onbehalfof", name))
    state = await AuditStore(pool).append([replace(step(1, "a", STEP), raw_headers=headers)], SIGN)
    assert state.size == 1


async def test_a_batch_that_comes_again_counts_once(pool: Pool) -> None:
    for _ in range(2):
        await AuditStore(pool).append(LOG[:3], SIGN)
    await AuditStore(pool).append(LOG, SIGN)
    assert (await UsageReader(pool).spent("uma", DAY)).tokens == 17


async def test_the_usage_of_a_log_from_before_is_taken_over(pool: Pool) -> None:
    """The migration reads the same from the log as is written with it."""
    await AuditStore(pool).append([r for r in LOG if r.type != ModelUsed.TYPE], SIGN)
    written = await pool.fetch("select * from model_usage order by leaf_index")
    await pool.execute("drop table model_usage")
    await pool.execute(bundled_migrations()[7].sql)
    assert await pool.fetch("select * from model_usage order by leaf_index") == written
    assert len(written) == 2
    assert written[0]["day"] == NOON.date()
