"""The audit log read by the sequences of the stream."""

from dataclasses import replace

from storage.audit import AuditStore
from storage.audit_reader import AuditReader
from storage.postgres import Pool, open_pool
from tests.integration.storage.test_audit import SIGN, record, records


async def test_a_stretch_is_read_in_pages_and_in_order(pool: Pool) -> None:
    await AuditStore(pool).append(records(1, 9), SIGN)
    reader = AuditReader(pool)
    first = await reader.stretch(after=2, until=8, limit=4)
    assert [row.record for row in first] == records(3, 6)
    rest = await reader.stretch(after=6, until=8, limit=4)
    assert [row.record for row in rest] == records(7, 8)
    assert await reader.stretch(after=9, until=99) == []


async def test_what_was_taken_out_of_the_stream_is_not_owed(pool: Pool) -> None:
    stored = [record(n, run="old" if n % 2 else "kept") for n in range(1, 9)]
    await AuditStore(pool).append(stored, SIGN)
    await pool.execute("insert into audit_trim (run, stream_sequence) values ('old', 5)")
    reader = AuditReader(pool)
    owed = await reader.owed(after=0, until=99)
    assert [row.record.stream_sequence for row in owed] == [2, 4, 6, 7, 8]
    among = await reader.owed(after=0, until=99, among=[1, 2, 5, 7])
    assert [row.record.stream_sequence for row in among] == [2, 7]
    assert len(await reader.stretch(after=0, until=99)) == len(stored)


async def test_events_are_found_by_their_ids_however_often_they_were_said(pool: Pool) -> None:
    twice = replace(record(3), event_id="id-1")
    await AuditStore(pool).append([record(1), record(2), twice], SIGN)
    found = await AuditReader(pool).with_ids(["id-1", "nobody's"])
    assert [row.record for row in found] == [record(1), twice]


async def test_how_far_it_reaches_and_whether_it_is_there(pool: Pool, empty_dsn: str) -> None:
    reader = AuditReader(pool)
    state = await AuditStore(pool).append([record(2), record(5)], SIGN)
    reach = await reader.reach()
    assert (reach.size, reach.stream_sequence, reach.root) == (2, 5, state.root)
    assert await reader.exists()
    async with open_pool(empty_dsn) as empty:
        assert not await AuditReader(empty).exists()
