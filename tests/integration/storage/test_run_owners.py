"""Whose runs are, by a real audit log."""

import pytest

from storage.postgres import Pool
from storage.run_owners import RunOwner, RunOwnerReader

DIGEST = bytes(range(32))


async def recorded(
    pool: Pool,
    *,
    data: bytes,
    headers: str = '{"ce-onbehalfof": "u1"}',
    verdict: str = "accepted",
    kind: str = "swarm.run.submitted.v1",
) -> None:
    count = await pool.fetchval("select count(*) from audit_event")
    await pool.execute(
        "insert into audit_event (leaf_index, stream_sequence, subject, type, run, run_index,"
        " trust_count, stored_at, headers, envelope, data, verdict, reason_code, reason, leaf_hash)"
        " values ($1::bigint, $1::bigint + 1, 's', $2, 'r1', $1::bigint, 0, now(), $3, ''::bytea,"
        " $4, $5, 'ok', '', $6)",
        count,
        kind,
        headers,
        data,
        verdict,
        DIGEST,
    )


async def test_the_owner_is_in_the_submission(pool: Pool) -> None:
    await recorded(pool, data=b'{"tenant": "blue"}')
    await recorded(pool, data=b'{"tenant": "red"}', headers='{"ce-onbehalfof": "u2"}')
    assert await RunOwnerReader(pool).of("r1") == RunOwner(user="u1", tenant="blue")


async def test_a_submission_from_before_there_were_tenants_is_of_the_first_one(pool: Pool) -> None:
    await recorded(pool, data=b"{}", headers="{}")
    assert await RunOwnerReader(pool).of("r1") == RunOwner(user="", tenant="default")


async def test_a_submission_in_an_object_is_read_there(pool: Pool) -> None:
    await pool.execute(
        "insert into audit_object (digest, content) values ($1, $2)", DIGEST, b'{"tenant": "blue"}'
    )
    reference = f"swarm-object:sha256:{DIGEST.hex()}:18"
    headers = f'{{"ce-onbehalfof": "u1", "ce-dataref": "{reference}"}}'
    await recorded(pool, data=b"", headers=headers)
    assert await RunOwnerReader(pool).of("r1") == RunOwner(user="u1", tenant="blue")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"tenant": 7}', b"null"])
async def test_a_submission_that_cannot_be_read_is_of_no_tenant(pool: Pool, data: bytes) -> None:
    await recorded(pool, data=data)
    assert await RunOwnerReader(pool).of("r1") == RunOwner(user="u1", tenant="")


@pytest.mark.parametrize(
    "other", [{"verdict": "refused"}, {"kind": "swarm.run.completed.v1"}], ids=str
)
async def test_nothing_but_an_accepted_submission_makes_an_owner(
    pool: Pool, other: dict[str, str]
) -> None:
    await recorded(pool, data=b"{}", **other)
    assert await RunOwnerReader(pool).of("r1") is None
    assert await RunOwnerReader(pool).of("nowhere") is None
