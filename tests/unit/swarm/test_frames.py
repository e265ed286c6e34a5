"""Server-sent events from bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.reference import MAX_OBJECT_BYTES
from swarm import frames
from swarm.errors import GatewayFailed
from swarm.frames import Frame, FrameReader

TEXT = (
    b": heartbeat\n\n"
    b"id: 1\nevent: a\ndata: one\n\n"
    b"id:2\r\nevent:b\r\ndata:  two\r\ndata: lines\r\n\r\n"
    b"event: nothing\n\n"
    b"retry: 5\nunknown\ndata: \xc3\xa9\n\n"
    b"id: 9\ndata: cut"
)
FRAMES = [
    Frame(id="1", event="a", data="one"),
    Frame(id="2", event="b", data=" two\nlines"),
    Frame(data="é"),
]


@given(st.lists(st.integers(0, len(TEXT)), max_size=20))
def test_frames_are_the_same_wherever_the_bytes_are_divided(cuts: list[int]) -> None:
    reader = FrameReader()
    found: list[Frame] = []
    places = [0, *sorted(cuts), len(TEXT)]
    for start, end in pairwise(places):
        found += reader.feed(TEXT[start:end])
    assert found == FRAMES


def test_the_longest_event_of_the_log_is_let_through() -> None:
    """Its payload is an object; in JSON a character of it may take six."""
    assert frames.MAX_OBJECT_BYTES == MAX_OBJECT_BYTES
    assert frames.MAX_FRAME_BYTES > 6 * MAX_OBJECT_BYTES


def test_a_long_event_costs_no_more_for_coming_in_many_pieces() -> None:
    text, reader = b"data: " + b"x" * 8_000_000 + b"\n\n", FrameReader()
    found = [frame for at in range(0, len(text), 100) for frame in reader.feed(text[at : at + 100])]
    assert [len(frame.data) for frame in found] == [8_000_000]


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    one_line, many_lines = FrameReader(), FrameReader()
    with pytest.raises(GatewayFailed):
        _ = list(one_line.feed(b"data: " + b"x" * 100))
    for _ in range(14):
        assert list(many_lines.feed(b"data: x\n")) == []
    with pytest.raises(GatewayFailed):
        _ = list(many_lines.feed(b"data: x\n"))


def test_many_short_events_are_not_taken_for_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 100)
    reader = FrameReader()
    assert len([frame for _ in range(50) for frame in reader.feed(b"data: x\n\n")]) == 50
