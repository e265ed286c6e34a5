"""The event stream of a run: what it shows, where it starts, when it ends."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from bus.errors import BusUnreachable
from bus.event import SIGNATURE_HEADER, StoredEvent
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import RetryRequested, RunCompleted
from bus.received import Received, RefusedEvent
from serve.stream import HEARTBEAT, ends_run, frame, run_events, until_end, with_heartbeats
from tests.unit.serve.fakes import (
    RESEARCH,
    Fakes,
    MemoryLog,
    cancelled,
    complete,
    do_step,
    fail,
    quick,
    submit,
)


def parsed(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Id, event and data of each frame, by a reader of its own."""
    frames = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        frames.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return frames


async def finished() -> Fakes:
    """Two runs, interleaved; r1 has eight events, one of them forged, and is completed."""
    fakes = Fakes()
    await submit(fakes.log)
    await submit(fakes.log, "r2")
    await do_step(fakes.log, "r1", step="research", role="researcher", answer=RESEARCH)
    await fakes.log.append_refused("r1", RunCompleted.TYPE)
    await do_step(fakes.log, "r2", step="research", role="researcher", answer=RESEARCH)
    await complete(fakes.log, "r1")
    await do_step(fakes.log, "r2", step="specification", role="specifier", answer={})
    return fakes


async def test_a_stream_shows_every_event_of_the_run_in_order_and_ends_with_it() -> None:
    fakes = await finished()
    async with fakes.client() as client:
        answer = await client.get("/v1/runs/r1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    frames = parsed(answer.text)
    assert [(sequence, kind) for sequence, kind, _ in frames] == [
        (1, "swarm.run.submitted.v1"),
        (3, "swarm.step.assigned.v1"),
        (4, "swarm.step.claimed.v1"),
        (5, "swarm.step.completed.v1"),
        (6, "refused"),
        (10, "swarm.run.completed.v1"),
    ]


async def test_an_event_is_shown_with_all_that_it_takes_to_check_it() -> None:
    fakes = await finished()
    async with fakes.client() as client:
        frames = parsed((await client.get("/v1/runs/r1/events")).text)
    stored = fakes.log.stored[4]
    assert isinstance(stored, StoredEvent)
    event, (_, _, shown) = stored.event, frames[3]
    assert shown == {
        "stream_sequence": 5,
        "stored_at": shown["stored_at"],
        "type": "swarm.step.completed.v1",
        "subject": event.subject,
        "id": event.id,
        "source": "swarm://researcher/researcher-1",
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "sequence": 2,
        "cause": event.cause,
        "key": event.key,
        "signature": event.headers[SIGNATURE_HEADER],
        "payload": json.loads(event.data),
    }


async def test_a_refused_event_is_shown_as_refused_and_not_repeated() -> None:
    fakes = await finished()
    async with fakes.client() as client:
        answer = await client.get("/v1/runs/r1/events")
    (_, _, refused) = parsed(answer.text)[4]
    assert refused["code"] == "bad_signature"
    assert "payload" not in refused
    assert "forged" not in answer.text


@pytest.mark.parametrize("by", ["header", "query"])
@pytest.mark.parametrize("after", range(10))
async def test_a_stream_goes_on_behind_the_last_event_seen(by: str, after: int) -> None:
    fakes = await finished()
    async with fakes.client() as client:
        whole = parsed((await client.get("/v1/runs/r1/events")).text)
        if by == "header":
            headers = {"Last-Event-ID": str(after)}
            answer = await client.get("/v1/runs/r1/events?after=0", headers=headers)
        else:
            answer = await client.get(f"/v1/runs/r1/events?after={after}")
    assert parsed(answer.text) == [shown for shown in whole if shown[0] > after]


@pytest.mark.parametrize("after", [10, 11, 13])
async def test_who_has_seen_the_end_is_told_not_to_come_back(after: int) -> None:
    fakes = await finished()
    async with fakes.client() as client:
        answer = await client.get(f"/v1/runs/r1/events?after={after}")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("position", ["-1", "x", "1.0", "\u0661", "9" * 25, "14", "1\n", ""])
async def test_a_last_event_id_that_cannot_be_is_refused(position: str) -> None:
    fakes = await finished()
    headers = {b"Last-Event-ID": position.encode()}
    async with fakes.client() as client:
        answer = await client.get("/v1/runs/r1/events", headers=headers)
    assert answer.status_code == 422


@pytest.mark.parametrize("position", ["-1", "x", "9" * 25, "9" * 19, "14"])
async def test_a_place_that_cannot_be_is_refused(position: str) -> None:
    fakes = await finished()
    async with fakes.client() as client:
        answer = await client.get("/v1/runs/r1/events", params={"after": position})
    assert answer.status_code == 422


async def test_a_failed_run_ends_its_stream() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with fakes.client() as client:
        frames = parsed((await client.get("/v1/runs/r1/events")).text)
    assert frames[-1][1] == "swarm.run.failed.v1"


async def test_a_cancelled_run_ends_its_stream() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await cancelled(fakes.log, "r1")
    async with fakes.client() as client:
        frames = parsed((await client.get("/v1/runs/r1/events")).text)
        seen = await client.get("/v1/runs/r1/events?after=2")
    assert frames[-1][1] == "swarm.run.cancelled.v1"
    assert seen.status_code == 204


async def retried() -> Fakes:
    """A run that failed, was retried, and was completed."""
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    async with fakes.client() as client:
        assert (await client.post("/v1/runs/r1/retry")).status_code == 202
    await complete(fakes.log, "r1")
    return fakes


@pytest.mark.parametrize("after", range(4))
async def test_a_failure_that_was_retried_is_not_the_end(after: int) -> None:
    fakes = await retried()
    async with fakes.client() as client:
        answer = await client.get(f"/v1/runs/r1/events?after={after}")
        over = await client.get("/v1/runs/r1/events?after=4")
    kinds = ["run.submitted", "run.failed", "retry.requested", "run.completed"]
    assert [kind for _, kind, _ in parsed(answer.text)] == [
        f"swarm.{kind}.v1" for kind in kinds[after:]
    ]
    assert over.status_code == 204


async def test_a_forged_retry_takes_nothing_up_again() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    await fail(fakes.log, "r1")
    await fakes.log.append_refused("r1", RetryRequested.TYPE)
    async with fakes.client() as client:
        assert (await client.get("/v1/runs/r1/events?after=2")).status_code == 204


async def test_a_stream_waits_for_what_comes() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    stream = run_events(fakes.log, "r1", after=0, limits=quick(heartbeat_s=60.0))
    async with aclosing(stream):
        assert b"id: 1\n" in await anext(stream)
        coming = asyncio.create_task(anext(stream))
        await complete(fakes.log, "r1")
        assert b"id: 2\n" in await coming
        assert await anext(stream, None) is None


async def test_silence_is_filled_with_comments() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    stream = run_events(fakes.log, "r1", after=1, limits=quick())
    async with aclosing(stream):
        assert [await anext(stream) for _ in range(3)] == [HEARTBEAT] * 3


async def test_a_stream_ends_after_its_life_so_that_the_token_is_asked_for_again() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    limits = quick(stream_life_s=0.05, heartbeat_s=60.0)
    async with fakes.client(limits=limits) as client:
        answer = await client.get("/v1/runs/r1/events")
    assert [sequence for sequence, _, _ in parsed(answer.text)] == [1]


async def test_a_stream_whose_log_breaks_just_ends() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    stream = run_events(fakes.log, "r1", after=0, limits=quick(heartbeat_s=60.0))
    async with aclosing(stream):
        await anext(stream)
        coming = asyncio.create_task(anext(stream, None))
        await fakes.log.break_down()
        assert await coming is None


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_closed_stream_stops_following_the_log(pieces: int) -> None:
    class WatchedLog(MemoryLog):
        following = 0

        async def follow(
            self, subject_filter: str, *, after: int = 0
        ) -> AsyncGenerator[Received, None]:
            self.following += 1
            try:
                async with aclosing(super().follow(subject_filter, after=after)) as events:
                    async for received in events:
                        yield received
            finally:
                self.following -= 1

    log = WatchedLog()
    await submit(log)
    stream = run_events(log, "r1", after=0, limits=quick())
    for _ in range(pieces):
        await anext(stream)
    assert log.following == 1
    await stream.aclose()
    assert log.following == 0


async def test_an_error_reaches_whoever_reads_the_frames() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise BusUnreachable

    with pytest.raises(BusUnreachable):
        _ = [piece async for piece in with_heartbeats(broken(), interval_s=1.0, life_s=60.0)]


async def test_nothing_follows_the_end_of_a_run() -> None:
    fakes = await finished()

    async def all_of_it() -> AsyncIterator[Any]:
        for received in fakes.log.stored:
            yield received

    frames = [piece async for piece in until_end(all_of_it())]
    assert frames == [frame(received) for received in fakes.log.stored[:10]]


async def test_others_are_served_while_a_large_event_is_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = threading.Event()

    def slow(received: Received) -> bytes:
        assert moved.wait(5.0), "nobody else was served meanwhile"
        return frame(received)

    fakes = Fakes()
    await submit(fakes.log)
    answer: dict[str, JsonValue] = {**RESEARCH, "findings": ["x" * MAX_PAYLOAD_BYTES]}
    await do_step(fakes.log, "r1", step="research", role="researcher", answer=answer)

    async def the_large_one() -> AsyncIterator[Received]:
        asyncio.get_running_loop().call_soon(moved.set)
        yield fakes.log.stored[-1]

    monkeypatch.setattr("serve.stream.frame", slow)
    (piece,) = [each async for each in until_end(the_large_one())]
    ((_, _, shown),) = parsed(piece.decode())
    assert shown["payload"]["answer"] == answer


def test_a_frame_stays_one_event_whatever_stands_in_it() -> None:
    received = RefusedEvent(
        subject="evt.00.r1.\n\ndata: x",
        headers={},
        data=b"",
        stream_sequence=3,
        stored_at=datetime(2026, 1, 1, tzinfo=UTC),
        error=BusUnreachable("two\n\nlines\r\r\u2028"),  # type: ignore[arg-type]
    )
    ((sequence, kind, data),) = parsed(frame(received).decode())
    assert (sequence, kind) == (3, "refused")
    assert data["reason"] == "two\n\nlines\r\r\u2028"
    assert not ends_run(received)
