import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bus.errors import BusUnreachable, SwarmError
from cluster.errors import PartFailed
from cluster.settings import Settings
from cluster.state import Phase, PublicAddresses, State
from cluster.succession import EXIT_LOST, cause_of, goes_on, same_ports

KILLED = -signal.SIGKILL


def state(phase: Phase, **addresses: str) -> State:
    return State(
        phase=phase,
        guard_pid=2,
        supervisor_pid=3,
        supervisor_started=0.0,
        began=datetime(2026, 1, 2, tzinfo=UTC),
        model_profile="scripted",
        addresses=PublicAddresses(**addresses),
    )


@pytest.mark.parametrize(
    ("status", "phase", "again", "expected"),
    [
        (0, Phase.STOPPED, False, False),
        (1, Phase.FAILED, False, False),
        (EXIT_LOST, Phase.STARTING, False, True),
        (KILLED, Phase.READY, False, True),
        (KILLED, Phase.READY, True, True),
        (KILLED, Phase.STARTING, False, False),
        (KILLED, Phase.STARTING, True, True),
        (KILLED, Phase.STOPPING, False, False),
        (KILLED, Phase.STOPPING, True, False),
    ],
)
def test_another_follows_only_on_one_that_had_begun_and_was_not_asked_to_end(
    status: int,
    phase: Phase,
    again: bool,  # noqa: FBT001
    expected: bool,  # noqa: FBT001
) -> None:
    assert goes_on(status, state(phase), again=again) is expected


def test_none_follows_on_one_of_which_nothing_is_known() -> None:
    assert not goes_on(KILLED, None, again=False)


def test_the_next_one_takes_over_the_ports_that_people_know(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, redis_port=7)
    known = state(Phase.READY, gateway="http://127.0.0.1:8001", nats="nats://127.0.0.1:4223")
    taken = same_ports(settings, known)
    assert (taken.gateway_port, taken.nats_port, taken.redis_port) == (8001, 4223, 7)
    assert taken.dashboard_port is None


def test_the_cause_is_the_error_of_ours_in_a_group() -> None:
    ours = BusUnreachable("no broker")
    assert cause_of(ExceptionGroup("x", [ValueError("y"), ExceptionGroup("z", [ours])])) is ours


def test_a_cause_that_is_not_ours_becomes_one() -> None:
    cause = cause_of(ZeroDivisionError("oh"))
    assert isinstance(cause, PartFailed)
    assert isinstance(cause, SwarmError)
    assert "ZeroDivisionError: oh" in str(cause)
