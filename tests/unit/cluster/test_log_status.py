"""How the log of a swarm is described."""

import pytest

from bus.scan import QueueDepth
from cluster.log_status import LogStatus

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
