"""How the log of a swarm is described."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bus.scan import QueueDepth
from cluster.home import open_home
from cluster.log_status import LogStatus, log_status
from cluster.settings import Settings
from cluster.state import Phase, State

QUEUES = {
    "coder": QueueDepth(waiting=3, in_work=1),
    "judge": QueueDepth(waiting=0, in_work=0),
}


def test_lag_work_and_room_are_shown() -> None:
    status = LogStatus(
        last_sequence=120, audited=100, stored_bytes=3 << 20, max_bytes=1 << 30, queues=QUEUES
    )
    assert status.healthy
    assert status.describe() == "audited 100 of 120, 3.0 of 1024 MiB, waiting+in work: coder 3+1"
    document = status.document()
    assert document["audit_lag"] == 20
    assert document["queues"] == {
        "coder": {"waiting": 3, "in_work": 1},
        "judge": {"waiting": 0, "in_work": 0},
    }


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (LogStatus(lost=3), "events lost: 3"),
        (LogStatus(set_back=True), "set back to an earlier state"),
        (LogStatus(error="no answer"), "no answer"),
    ],
)
def test_what_is_wrong_is_said(status: LogStatus, words: str) -> None:
    assert not status.healthy
    assert words in status.describe()
    assert status.document()["healthy"] is False


def test_a_stream_that_was_set_back_has_no_negative_lag() -> None:
    assert LogStatus(last_sequence=5, audited=9).lag == 0


async def test_a_swarm_that_is_starting_is_not_asked_and_its_keys_are_left_for_it_to_make(
    tmp_path: Path,
) -> None:
    state = State(
        phase=Phase.STARTING,
        guard_pid=os.getppid(),
        supervisor_pid=os.getpid(),
        supervisor_started=0.0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="scripted",
    )
    home = open_home(tmp_path)
    found = await log_status(Settings(home=home.root), state)
    assert found.error == "no address yet: the swarm is starting"
    assert not found.healthy
    assert list(home.keys.iterdir()) == []
