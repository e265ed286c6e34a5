"""What is received while signatures are checked: all of it, once, in order."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, nullcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.event import Event, StoredEvent
from bus.received import Received
from bus.signature_checks import AT_ONCE, SignatureChecks, checked
from bus.signature_process import COUNT, ITEM, answer
from tests.sending import appended, new_sender

EVENT = appended(new_sender(), "r1")


class Trusting(SignatureChecks):
    """Takes a while, and finds every signature good."""

    def __init__(self) -> None:
        """There is no process."""

    async def good(self, events: Sequence[Event]) -> list[bool]:
        for _ in events:
            await asyncio.sleep(0)
        return [True] * len(events)


async def arriving(
    sizes: list[int], error: Exception | None = None
) -> AsyncIterator[list[Received]]:
    place = 0
    for size in sizes:
        yield [
            StoredEvent(event=EVENT, stream_sequence=place + n + 1, stored_at=EVENT.time)
            for n in range(size)
        ]
        place += size
        await asyncio.sleep(0)  # as if it came over the network
    if error is not None:
        raise error


@given(st.lists(st.integers(0, 3 * AT_ONCE), max_size=4), st.booleans())
@example([2 * AT_ONCE, 1], True)
def test_everything_comes_once_and_in_order(sizes: list[int], fails: bool) -> None:  # noqa: FBT001
    """However it arrives, and however it ends."""

    async def places(checks: SignatureChecks | None) -> list[int]:
        found = []
        error = OSError("cut") if fails else None
        with pytest.raises(OSError, match="cut") if fails else nullcontext():
            async with aclosing(checked(arriving(sizes, error), checks)) as events:
                async for received, _ in events:
                    found.append(received.stream_sequence)
        return found

    async def both() -> None:
        everything = [*range(1, sum(sizes) + 1)]
        assert await places(None) == everything
        assert await places(Trusting()) == everything

    with asyncio.Runner() as runner:
        runner.run(both())


async def test_who_leaves_early_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    async with aclosing(checked(arriving([200, 200]), Trusting())) as events:
        received, is_signed = await anext(events)
    assert received.stream_sequence == 1
    assert is_signed
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("cut", [1, 4, 5, 60, 110])
def test_a_request_that_is_cut_off_has_no_answer(cut: int) -> None:
    request = COUNT.pack(1) + ITEM.pack(b"k" * 32, b"s" * 64, 10) + b"m" * 10
    assert answer(io.BytesIO(request)) == b"\0"
    with pytest.raises(EOFError):
        answer(io.BytesIO(request[:cut]))
