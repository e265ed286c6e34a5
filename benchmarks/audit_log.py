"""The audit log as it grows: cost of an event, of a proof, of verifying a bundle.

Rows are written by the code that the auditor uses, in its batches; only the events are made up.
The log is filled to each size in turn, and at each the last events' cost is taken.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from nacl.signing import SigningKey

from actors.auditor import BATCH
from benchmarks.world import PAYLOAD_BYTES, postgres
from storage.audit import AuditStore
from storage.checkpoint import checkpoint_signer
from storage.leaf import AuditRecord
from storage.postgres import migrate, open_pool
from swarm.verify import verify
from tests.evidence import Ledger, begun

SIZES = (10_000, 100_000, 1_000_000)
MEASURED = 40 * BATCH
"""Events at each size whose cost is taken: whole events of 1 KiB, the rest has a few bytes."""
RUNS = 64
PROOFS = 200
BUNDLE_EVENTS = 500
VERIFIED = 3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One size: an event's cost there in microseconds, and a proof's in milliseconds."""

    append_us: float
    inclusion_ms: float
    consistency_ms: float


async def measure(sizes: tuple[int, ...] = SIZES) -> dict[int, Growth]:
    """By number of leaves."""
    found: dict[int, Growth] = {}
    with postgres() as database:
        async with open_pool(database) as pool:
            await migrate(pool)
            store, sign = AuditStore(pool), checkpoint_signer("bench", SigningKey.generate())
            for size in sizes:
                for batch in _batches(await _size(store), size - MEASURED, b""):
                    await store.append(batch, sign)
                await pool.execute("checkpoint")
                written = list(_batches(await _size(store), size, b"x" * PAYLOAD_BYTES))
                began = time.perf_counter()
                for batch in written:
                    await store.append(batch, sign)
                append_us = (time.perf_counter() - began) / sum(map(len, written)) * 1e6
                found[size] = await _proofs(store, append_us)
    return found


async def _proofs(store: AuditStore, append_us: float) -> Growth:
    size = await _size(store)
    inclusion, consistency = [], []
    for number in range(PROOFS):
        at = number * 7919 * 31 % (size - 1) + 1
        began = time.perf_counter()
        await store.inclusion(at, size)
        middle = time.perf_counter()
        await store.consistency(at, size)
        inclusion.append((middle - began) * 1e3)
        consistency.append((time.perf_counter() - middle) * 1e3)
    return Growth(
        append_us=append_us, inclusion_ms=median(inclusion), consistency_ms=median(consistency)
    )


async def _size(store: AuditStore) -> int:
    return (await store.reach()).size


def _batches(first: int, end: int, data: bytes) -> Iterator[list[AuditRecord]]:
    for start in range(first, end, BATCH):
        yield [_record(number, data) for number in range(start, min(start + BATCH, end))]


def _record(number: int, data: bytes) -> AuditRecord:
    """As the auditor makes one of an agent's events."""
    run, event_id = f"run-{number % RUNS}", f"{number:032x}"
    headers = {
        "ce-id": event_id,
        "ce-type": "swarm.step.completed.v1",
        "ce-run": run,
        "ce-source": "swarm://coder/coder-1",
        "ce-time": NOW.isoformat(),
        "ce-sequence": str(number),
        "ce-previous": "0" * 64,
        "ce-policy": "0" * 64,
        "swarm-key": "U" * 56,
        "swarm-signature": "A" * 86,
    }
    return AuditRecord(
        stream_sequence=number + 1,
        subject=f"evt.03.{run}.step.completed.coder",
        raw_headers=tuple(headers.items()),
        data=data,
        verdict="accepted",
        stored_at=NOW,
        digest=bytes(32),
        event_id=event_id,
        type="swarm.step.completed.v1",
        source_role="coder",
        source_agent="coder-1",
        sender_key="U" * 56,
        sender_sequence=number + 1,
        event_time=NOW,
    )


def verifier_rate() -> float:
    """Events per second that the independent verifier checks, on one core."""
    ledger = _run_of(BUNDLE_EVENTS)
    bundle, root = ledger.bundle(), ledger.operator.public
    began = time.perf_counter()
    for _ in range(VERIFIED):
        assert verify(bundle, root).accepted == BUNDLE_EVENTS
    return VERIFIED * BUNDLE_EVENTS / (time.perf_counter() - began)


def _run_of(events: int) -> Ledger:
    ledger, _, gateway, coder = begun()
    cause = ledger.say(gateway, "run.submitted")
    for _ in range(events - 1):
        payload = {"text": "x" * PAYLOAD_BYTES}
        cause = ledger.say(coder, "step.completed", payload, suffix=("coder",), cause=cause)
    return ledger
