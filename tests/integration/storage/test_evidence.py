"""The evidence of a run, read from a real Postgres and proven by the independent verifier."""

import pytest

from serve.evidence import bundle_of
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.evidence import Evidence, EvidenceReader, TailTooLong
from storage.postgres import Pool
from swarm.verify import verify
from tests.evidence import ORIGIN, RUN, Ledger, Member, begun
from tests.integration.storage.test_audit_verify import audited


def ledger_of_several_runs() -> Ledger:
    """Two authorities, a revocation, an object, refused events, and runs side by side."""
    ledger, authority, gateway, coder = begun()
    ledger.enrolled("coder", "idle", authority)
    first = ledger.say(gateway, "run.submitted", content=b"large")
    ledger.say(gateway, "run.submitted", run="r2")
    second = ledger.announce(Member("authority", "authority-2"), authority)
    late = ledger.enrolled("coder", "late", second)
    claimed = ledger.say(coder, "step.claimed", suffix=("coder",), cause=first)
    key = coder.key.public
    ledger.trust(second, "identity.revoked", {"public_key": key}, (key,))
    ledger.say(coder, "step.completed", suffix=("coder",), refused="bad_signature")
    ledger.say(late, "step.completed", suffix=("coder",), cause=claimed)
    for number in range(20):
        ledger.say(gateway, "run.submitted", run=f"later-{number}")
    return ledger


async def written(pool: Pool, ledger: Ledger, batch: int) -> EvidenceReader:
    sign, store = checkpoint_signer(ORIGIN, ledger.log), AuditStore(pool)
    records = audited(ledger)
    for first in range(0, len(records), batch):
        await store.append(records[first : first + batch], sign)
    return EvidenceReader(pool)


async def evidence_at(reader: EvidenceReader, size: int | None = None) -> Evidence:
    checkpoint = await reader.checkpoint(size)
    assert checkpoint is not None
    found = await reader.evidence(RUN, checkpoint, most_tail=100)
    assert isinstance(found, Evidence)
    return found


@pytest.mark.parametrize("batch", [1, 7, 100])
async def test_what_the_database_shows_is_proven(pool: Pool, batch: int) -> None:
    ledger = ledger_of_several_runs()
    reader = await written(pool, ledger, batch)
    bundle = bundle_of(await evidence_at(reader), ledger.anchors())
    proven = verify(bundle, ledger.operator.public)
    assert (proven.accepted, dict(proven.refused)) == (3, {"bad_signature": 1})
    assert proven.size == len(ledger.records)
    assert sorted(proven.senders.values()) == ["coder/coder-1", "coder/late", "gateway/gateway-1"]
    assert proven.keys == 5  # those and both authorities; nobody asks for the idle one's


async def test_it_is_what_the_ledger_itself_would_show(pool: Pool) -> None:
    ledger = ledger_of_several_runs()
    reader = await written(pool, ledger, 5)
    found = await evidence_at(reader)
    assert [shown.event.leaf_hash for shown in found.leaves] == [
        event.leaf_hash
        for event in (await _all(reader))
        if event.leaf_index in {shown.event.leaf_index for shown in found.leaves}
    ]
    assert len(found.tail) == 20
    assert [leaf.run for leaf in found.tail] == [f"later-{n}" for n in range(20)]


async def test_every_checkpoint_that_covers_the_run_will_do(pool: Pool) -> None:
    ledger = ledger_of_several_runs()
    reader = await written(pool, ledger, 5)
    for size in (15, 20, 30):
        bundle = bundle_of(await evidence_at(reader, size), ledger.anchors())
        assert verify(bundle, ledger.operator.public).size == size


async def test_a_run_that_the_tree_does_not_have_shows_nothing(pool: Pool) -> None:
    reader = await written(pool, ledger_of_several_runs(), 5)
    checkpoint = await reader.checkpoint(5)
    assert checkpoint is not None
    assert await reader.evidence("later-3", checkpoint, most_tail=100) is None
    latest = await reader.checkpoint()
    assert latest is not None
    assert await reader.evidence(RUN, latest, most_tail=19) == TailTooLong(leaves=20, last_leaf=11)


async def _all(reader: EvidenceReader) -> list:  # type: ignore[type-arg]
    return await reader.stretch(after=0, until=100)
