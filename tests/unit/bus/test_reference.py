"""What an event says in place of a large payload."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import MalformedEvent, ObjectMismatch, PayloadTooLarge, SubjectMismatch
from bus.event import Draft, Event
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import PAYLOADS, most_bytes
from bus.reference import (
    CHUNK_BYTES,
    DATAREF,
    MAX_OBJECT_BYTES,
    ObjectReference,
    objects_filter,
)
from bus.tool_payloads import ToolCalled
from tests.sending import new_sender, submitted

SIZES = st.integers(1, MAX_OBJECT_BYTES)


@given(st.binary(min_size=1, max_size=2_000))
def test_a_reference_reads_back_and_accepts_its_bytes_only(content: bytes) -> None:
    reference = ObjectReference.to(content)
    assert ObjectReference.parse(str(reference)) == reference
    reference.check(content)
    for other in (content[:-1], content + b"x", bytes([content[0] ^ 1]) + content[1:]):
        with pytest.raises(ObjectMismatch):
            reference.check(other)


@given(SIZES)
def test_chunks_add_up_and_only_the_last_is_not_full(size: int) -> None:
    sizes = ObjectReference(digest="0" * 64, size=size).chunk_sizes
    assert sum(sizes) == size
    assert all(chunk == CHUNK_BYTES for chunk in sizes[:-1])
    assert 0 < sizes[-1] <= CHUNK_BYTES


def test_the_limit_counts() -> None:
    assert ObjectReference.to(bytes(MAX_OBJECT_BYTES)).size == MAX_OBJECT_BYTES
    with pytest.raises(PayloadTooLarge):
        ObjectReference.to(bytes(MAX_OBJECT_BYTES + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "swarm-object:sha256:",
        f"swarm-object:sha256:{'a' * 64}",
        f"swarm-object:sha256:{'a' * 64}:",
        f"swarm-object:sha256:{'a' * 64}:0",
        f"swarm-object:sha256:{'a' * 64}:01",
        f"swarm-object:sha256:{'a' * 64}:-1",
        f"swarm-object:sha256:{'a' * 64}:1 ",
        f"swarm-object:sha256:{'a' * 64}:1\n",
        f"swarm-object:sha256:{'A' * 64}:1",
        f"swarm-object:sha512:{'a' * 64}:1",
        f"swarm-object:sha256:{'a' * 64}:{MAX_OBJECT_BYTES + 1}",
        f"swarm-object:sha256:{'a' * 64}:{'9' * 5000}",
    ],
)
def test_nothing_else_is_a_reference(text: str) -> None:
    with pytest.raises(MalformedEvent):
        ObjectReference.parse(text)


def test_a_filter_matches_one_run_only() -> None:
    assert objects_filter("r1") == "obj.r1.>"
    for run in ("*", ">", "r1.x", ""):
        with pytest.raises(SubjectMismatch):
            objects_filter(run)


def large_event() -> Event:
    payload = submitted("r1").payload.model_copy(
        update={"instructions": {"code": "x" * MAX_PAYLOAD_BYTES}}
    )
    draft = submitted("r1")
    return new_sender().sign(type(draft)(run=draft.run, payload=payload, id=draft.id))


SMALL = Draft(
    run="r1",
    payload=ToolCalled(
        step="code",
        iteration=1,
        attempt=1,
        epoch=1,
        call=1,
        tool="run",
        arguments={"text": "x" * MAX_PAYLOAD_BYTES},
    ),
    id="call",
    suffix=("coder",),
)


def test_what_any_agent_may_say_of_its_work_refers_to_no_object() -> None:
    """Each reader would fetch it, and hold it in memory at many times its size."""
    coder = new_sender("coder", "coder-1")
    with pytest.raises(PayloadTooLarge):
        coder.sign(SMALL)
    payload = SMALL.payload.model_copy(update={"arguments": {}})
    event = coder.sign(replace(SMALL, payload=payload))
    for size, is_refused in ((MAX_PAYLOAD_BYTES, False), (MAX_PAYLOAD_BYTES + 1, True)):
        headers = {**event.headers, DATAREF: f"swarm-object:sha256:{'0' * 64}:{size}"}
        with pytest.raises(MalformedEvent) if is_refused else nullcontext():
            assert Event.parse(event.subject, headers, b"").reference is not None


@pytest.mark.parametrize("event_type", PAYLOADS)
def test_what_a_payload_may_have_at_most_is_what_an_object_may(event_type: str) -> None:
    assert MAX_PAYLOAD_BYTES <= most_bytes(event_type) <= MAX_OBJECT_BYTES


def test_a_large_payload_is_read_only_where_it_was_fetched() -> None:
    signed = large_event()
    received = Event.parse(signed.subject, signed.headers, signed.data)
    assert received == signed
    with pytest.raises(MalformedEvent, match="not fetched"):
        received.payload()
    assert signed.content is not None
    whole = replace(received, content=signed.content)
    assert whole.payload() == signed.payload()
    assert whole == received
    assert whole.digest == received.digest


def test_the_reference_is_under_the_signature() -> None:
    signed = large_event()
    other = dict(signed.headers) | {DATAREF: f"swarm-object:sha256:{'0' * 64}:300000"}
    assert Event.parse(signed.subject, other, b"").signed_bytes != signed.signed_bytes
