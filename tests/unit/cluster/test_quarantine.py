"""What the log tells of agents and quarantines."""

from dataclasses import replace

import pytest

from bus.event import Draft
from bus.memory_payloads import MemoryQuarantined, MemoryReleased
from bus.subjects import ALL_EVENTS, MEMORY_RUN
from cluster.errors import UnknownKeyName
from cluster.quarantine import Told, told_by
from tests.unit.serve.fakes import MemoryLog, submit


async def told(log: MemoryLog, event: str) -> Told:
    return await told_by(log.read(ALL_EVENTS, unseal=False), event)


async def test_an_event_is_found_by_its_id() -> None:
    log = MemoryLog()
    await submit(log)
    stored = await submit(log, "r2")
    assert (await told(log, stored.event.id)).place == 2
    assert (await told(log, "nothing")).place is None


async def test_who_says_something_else_under_the_same_id_moves_no_place() -> None:
    log = MemoryLog()
    await submit(log)
    stored = await submit(log, "r2")
    known = Told(event=stored.event.id)
    for place in (2, 9):
        known.take(replace(stored, stream_sequence=place))
    assert known.place == 2


def test_an_agent_is_named_with_or_without_its_role() -> None:
    known = Told(event="e", agents={"coder/coder-1", "tester/x", "coder/x"})
    assert known.agent("coder-1") == known.agent("coder/coder-1") == "coder/coder-1"
    assert known.agent("tester/x") == "tester/x"
    with pytest.raises(UnknownKeyName, match="Several"):
        known.agent("x")
    with pytest.raises(UnknownKeyName, match="No member"):
        known.agent("coder")


async def test_a_quarantine_has_one_id_until_it_is_released() -> None:
    log = MemoryLog()
    first = (await told(log, "e")).quarantine_id("coder/coder-1", 7)
    for payload, event_id in (
        (MemoryQuarantined(agent="coder/coder-1", since=7, requested_by="me"), first),
        (MemoryReleased(quarantine=first, requested_by="me"), "released"),
    ):
        assert (await told(log, "e")).quarantine_id("coder/coder-1", 7) == first
        await log.append_as(
            "authority", "authority-1", Draft(run=MEMORY_RUN, payload=payload, id=event_id)
        )
    after = await told(log, "e")
    assert after.quarantine_id("coder/coder-1", 7) != first
    assert after.quarantine_id("coder/coder-1", 8) != first
    assert after.released == {first}
    assert after.quarantines[first][1] == 1
