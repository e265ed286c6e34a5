"""Which runs leave the stream: rules without a server."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.retention import Room, Rules, is_over, to_trim
from bus.payloads import RetryRequested, RunCancelled, RunCompleted, RunFailed
from storage.trims import LIFE, AuditedRun

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EMPTY = Room(used_bytes=0, max_bytes=1_000)
FULL = Room(used_bytes=1_000, max_bytes=1_000)
RULES = Rules(settle_s=60.0)


def run(name: str, *, age_s: float, life: tuple[str, ...] = (RunCompleted.TYPE,)) -> AuditedRun:
    return AuditedRun(
        run=name,
        life=life,
        stream_sequence=1,
        last_stored_at=NOW - timedelta(seconds=age_s),
        event_bytes=100,
        object_bytes=50,
    )


def names(
    *runs: AuditedRun, rules: Rules = RULES, events: Room = EMPTY, objects: Room = EMPTY
) -> list[str]:
    chosen = to_trim(runs, rules=rules, now=NOW, events=events, objects=objects)
    return [one.run for one in chosen]


def test_without_an_age_and_with_room_everything_stays() -> None:
    assert names(run("a", age_s=1e9)) == []


def test_what_is_older_than_it_may_get_goes() -> None:
    rules = Rules(max_age_s=100.0, settle_s=60.0)
    assert names(run("old", age_s=100), run("young", age_s=99), rules=rules) == ["old"]


def test_a_full_stream_loses_the_oldest_until_it_is_below_its_mark() -> None:
    runs = [run(f"r{n}", age_s=1_000 - n) for n in range(6)]
    assert names(*runs, events=FULL) == ["r0", "r1", "r2"]
    assert names(*runs, objects=FULL) == [f"r{n}" for n in range(6)]
    just_below = Room(used_bytes=799, max_bytes=1_000)
    assert names(*runs, events=just_below, objects=just_below) == []


def test_what_somebody_may_still_read_stays_even_in_a_full_stream() -> None:
    rules = Rules(max_age_s=0.0, settle_s=60.0)
    assert names(run("fresh", age_s=59), rules=rules, events=FULL) == []


@pytest.mark.parametrize(
    ("life", "over"),
    [
        ((), False),
        ((RunCompleted.TYPE,), True),
        ((RunCancelled.TYPE,), True),
        ((RunFailed.TYPE,), True),
        ((RunFailed.TYPE, RetryRequested.TYPE), False),
        ((RunFailed.TYPE, RetryRequested.TYPE, RunFailed.TYPE), True),
        ((RunFailed.TYPE, RetryRequested.TYPE, RunCompleted.TYPE), True),
        ((RunCompleted.TYPE, RetryRequested.TYPE), True),
        ((RunCancelled.TYPE, RetryRequested.TYPE), True),
        ((RetryRequested.TYPE,), False),
    ],
)
def test_a_run_is_over_unless_it_was_asked_to_go_on(
    life: tuple[str, ...],
    over: bool,  # noqa: FBT001 - from a table
) -> None:
    assert is_over(run("r", age_s=1, life=life)) is over


def test_the_systems_own_run_never_goes() -> None:
    rules = Rules(max_age_s=0.0, settle_s=0.0)
    assert names(run("swarm", age_s=1e9), rules=rules, events=FULL) == []


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.lists(st.sampled_from(LIFE), max_size=4))),
    st.integers(0, 1_000),
    st.one_of(st.none(), st.floats(0, 1e6)),
)
def test_nothing_goes_that_is_not_over_or_not_settled(
    made: list[tuple[float, list[str]]], used: int, max_age_s: float | None
) -> None:
    runs = [run(f"r{n}", age_s=age, life=tuple(life)) for n, (age, life) in enumerate(made)]
    room = Room(used_bytes=used, max_bytes=1_000)
    rules = Rules(max_age_s=max_age_s, settle_s=60.0)
    chosen = to_trim(runs, rules=rules, now=NOW, events=room, objects=EMPTY)
    assert all(is_over(one) for one in chosen)
    assert all(NOW - one.last_stored_at >= timedelta(seconds=60) for one in chosen)
