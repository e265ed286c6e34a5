"""The judge of a swarm's log: what was promised, checked on nothing but what is written there.

Pure: a list of what the log holds, in its order, and the rows of the audit log. `tests.chaos.
reading` gets both from a running swarm.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from actors.auditor import record_of
from actors.record import RunState, fact_of
from actors.run_state import fold
from bus.errors import MalformedEvent, SequenceError
from bus.event import StoredEvent
from bus.payloads import (
    ChainBroken,
    EventRefused,
    LogLost,
    Payload,
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StepCompleted,
    StepFailed,
    StepPayload,
    WitnessContradicted,
)
from bus.received import Received, RefusedEvent
from bus.subjects import RESERVED_RUNS
from bus.trust import ChainTracker
from storage.leaf import (
    decode_envelope,
    digest_of_reason,
    encode_envelope,
    join_leaf,
    microseconds,
)
from storage.merkle import Frontier, leaf_hash

TERMINAL = (RunCompleted, RunFailed, RunCancelled)
ALARMS = (ChainBroken, EventRefused, LogLost, WitnessContradicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that the log breaks: which, of whom, and how."""

    rule: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A row of the audit log, as far as its leaf goes."""

    leaf_index: int
    stream_sequence: int
    envelope: bytes
    data: bytes
    verdict: str
    reason_code: str
    reason: str
    run: str
    run_index: int
    trust_count: int
    stored_at: datetime
    leaf_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit log: its rows in order, and what its last checkpoint, verified, says."""

    rows: Sequence[AuditRow] = field(repr=False)
    size: int
    root: bytes


def check(
    received: Sequence[Received], accepted: Collection[str] = (), audit: Audit | None = None
) -> tuple[Violation, ...]:
    """Every violation in the whole log.

    Args:
        received: what the stream holds, all of it, verified, in order.
        accepted: runs that somebody was told are accepted.
        audit: the audit log, of the same moment; left out, it is not judged.
    """
    stored = [each for each in received if isinstance(each, StoredEvent)]
    by_run: dict[str, list[StoredEvent]] = defaultdict(list)
    for each in stored:
        by_run[each.event.run].append(each)
    found = [*_unaccepted(by_run, accepted), *_refused(received), *_chains(stored)]
    for run, events in by_run.items():
        found += _identities(run, events)
        if run not in RESERVED_RUNS:
            found += [*_ends(run, events), *_steps(run, events)]
    if audit is not None:
        found += [*_rows(received, audit), *_tree(audit)]
    return tuple(found)


def _unaccepted(
    by_run: dict[str, list[StoredEvent]], accepted: Collection[str]
) -> Iterator[Violation]:
    for run in accepted:
        kinds = [each.event.type for each in by_run.get(run, ())]
        if kinds.count(RunSubmitted.TYPE) != 1:
            times = kinds.count(RunSubmitted.TYPE)
            yield Violation(rule="accepted", where=run, detail=f"is submitted {times} times")


def _refused(received: Sequence[Received]) -> Iterator[Violation]:
    for each in received:
        if isinstance(each, RefusedEvent):
            where = f"sequence {each.stream_sequence}"
            yield Violation(rule="verified", where=where, detail=str(each.error))
        elif isinstance(payload := each.payload(), ALARMS):
            where = f"sequence {each.stream_sequence}"
            yield Violation(rule="alarm", where=where, detail=f"{payload.TYPE}: {payload}"[:300])


def _chains(stored: Sequence[StoredEvent]) -> Iterator[Violation]:
    """A chain may end anywhere: its sender was killed. It has no hole before its end."""
    tracker = ChainTracker()
    for each in stored:
        try:
            tracker.follow(each.event)
        except SequenceError as error:
            where = f"{each.event.source} {each.event.key[:8]}"
            yield Violation(rule="chain", where=where, detail=str(error))


def _identities(run: str, events: Sequence[StoredEvent]) -> Iterator[Violation]:
    """Nothing is said twice under one id, and nothing answers what is not there."""
    seen: set[str] = set()
    for each in events:
        if each.event.id in seen:
            detail = f"{each.event.type} {each.event.id} is stored twice"
            yield Violation(rule="once", where=run, detail=detail)
        if each.event.cause is not None and each.event.cause not in seen:
            detail = f"{each.event.type} answers {each.event.cause}, which is not there before it"
            yield Violation(rule="cause", where=run, detail=detail)
        seen.add(each.event.id)


def _ends(run: str, events: Sequence[StoredEvent]) -> Iterator[Violation]:
    ended: Payload | None = None
    for each in events:
        payload = each.payload()
        if isinstance(payload, RetryRequested) and isinstance(ended, RunFailed):
            ended = None
        if isinstance(payload, TERMINAL):
            if ended is not None:
                detail = f"{payload.TYPE} after {ended.TYPE}"
                yield Violation(rule="one end", where=run, detail=detail)
            ended = payload
    if ended is None:
        yield Violation(rule="one end", where=run, detail="has not ended")


def _steps(run: str, events: Sequence[StoredEvent]) -> Iterator[Violation]:
    try:
        state = fold(RunState(), [fact_of(each) for each in events])
    except MalformedEvent as error:
        yield Violation(rule="fold", where=run, detail=str(error))
        return
    yield from _results(run, events, state)
    for refusal in state.refusals:
        detail = f"{refusal.id} of step {refusal.step} counts for nothing, and nobody says so"
        yield Violation(rule="one result", where=run, detail=detail)


def _results(run: str, events: Sequence[StoredEvent], state: RunState) -> Iterator[Violation]:
    """Of all outcomes of a step one is accepted; of those of an attempt, at most one counts."""
    accepted = {result.id for result in state.results.values()}
    answers: Counter[tuple[object, ...]] = Counter()
    failures: Counter[tuple[object, ...]] = Counter()
    for each in events:
        payload = each.payload()
        if not isinstance(payload, StepCompleted | StepFailed) or each.event.id in state.refused:
            continue
        if isinstance(payload, StepFailed):
            failures[*_key(payload), payload.attempt] += 1
        elif each.event.id in accepted:
            answers[_key(payload)] += 1
        else:
            detail = f"{each.event.id} of {_key(payload)} is neither accepted nor refused"
            yield Violation(rule="one result", where=run, detail=detail)
    for key, times in (answers + failures).items():
        if times > 1:
            detail = f"{key} has {times} outcomes that nobody refused"
            yield Violation(rule="one result", where=run, detail=detail)
    if isinstance(state.ended, RunCompleted):
        without = [key for key in state.assignments if key not in state.results]
        if without or len(state.results) != state.ended.steps:
            detail = f"completed with {len(state.results)} results, without {without}"
            yield Violation(rule="one result", where=run, detail=detail)


def _key(payload: StepPayload) -> tuple[object, ...]:
    return payload.step, payload.iteration, payload.item


def _rows(received: Sequence[Received], audit: Audit) -> Iterator[Violation]:
    """Every message of the stream stands in the audit log once, byte for byte, in order."""
    order = [row.stream_sequence for row in audit.rows]
    if order != sorted(set(order)):
        yield Violation(rule="audit", where="rows", detail="are not in the order of the stream")
    rows = {row.stream_sequence: row for row in audit.rows}
    for each in received:
        where = f"sequence {each.stream_sequence}"
        row = rows.pop(each.stream_sequence, None)
        if row is None:
            yield Violation(rule="audit", where=where, detail="has no row")
            continue
        record = record_of(each)
        same = (
            row.envelope == encode_envelope(record.subject, record.raw_headers)
            and row.data == record.data
            and (row.verdict, row.reason_code) == (record.verdict, record.reason_code)
        )
        if not same:
            yield Violation(rule="audit", where=where, detail="has another content in its row")
    for sequence, row in rows.items():
        what = decode_envelope(row.envelope)[0]
        detail = f"the stream does not have it: {what}"
        yield Violation(rule="audit", where=f"sequence {sequence}", detail=detail)


def _tree(audit: Audit) -> Iterator[Violation]:
    """The checkpoint's root is made of the rows, their leaves rebuilt from their bytes."""
    leaves = []
    for index, row in enumerate(audit.rows):
        leaf = leaf_hash(
            join_leaf(
                row.stream_sequence,
                row.run,
                row.run_index,
                row.trust_count,
                microseconds(row.stored_at),
                (sha256(row.envelope).digest(), sha256(row.data).digest()),
                (row.verdict, row.reason_code),
                digest_of_reason(row.reason),
            )
        )
        if (row.leaf_index, row.leaf_hash) != (index, leaf):
            detail = "does not have the leaf that its bytes make"
            yield Violation(rule="audit", where=f"row {index}", detail=detail)
        leaves.append(leaf)
    frontier, _ = Frontier().append(leaves)
    if (audit.size, audit.root) != (frontier.size, frontier.root()):
        detail = f"signs {audit.size} leaves, the {frontier.size} rows make another tree"
        yield Violation(rule="audit", where="checkpoint", detail=detail)
