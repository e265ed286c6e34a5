"""What `swarm recover` says."""

from actors.loss import Difference
from bus.reference import ObjectReference
from cluster.recover import Recovered
from storage.objects import OwedObject
from swarm.cli.recover import document, lines

LOST = Difference(how="missing", stream_sequence=7, sender="swarm://coder/coder-1", sequence=3)
GONE = OwedObject(leaf_index=5, run="r1", key="U", reference=ObjectReference.to(bytes(300_000)))
WHOLE = "The stream has everything that the audit log has. (2.0 s)"


def test_a_whole_stream_takes_one_line() -> None:
    assert lines(Recovered(), 2.0) == [WHOLE]
    assert document(Recovered())["whole"] is True


def test_events_and_objects_that_were_put_back_are_counted() -> None:
    done = Recovered(lost=(LOST,), refilled=10, survivors=2, seconds=2.0, objects=3)
    said = lines(done, 2.0)
    assert "Events put back: 10, in 2.0 s (5/s)" in said
    assert "Objects put back: 3" in said
    assert said[-1] == WHOLE
    assert not any("as well" in line for line in said)


def test_what_is_lost_for_good_is_named() -> None:
    done = Recovered(objects=1, gone=(GONE,))
    assert not done.was_whole
    assert "Objects that the audit log has lost as well: 1" in lines(done, 2.0)
    assert "  300000 bytes of event 5 in run r1" in lines(done, 2.0)
    assert document(done)["gone"] == [
        {"leaf_index": 5, "run": "r1", "digest": GONE.reference.digest}
    ]
