"""Work is stopped once it does not matter any more, and only then."""

import asyncio

import pytest

from actors.run_end import RunEnded, unless_ended


class Looks:
    """Counts the looks; the run ends at one of them, if at all."""

    def __init__(self, ends_at: int | None = None) -> None:
        self.taken = 0
        self.ends_at = ends_at
        self.third = asyncio.Event()

    async def __call__(self) -> bool:
        self.taken += 1
        if self.taken == 3:
            self.third.set()
        return self.taken == self.ends_at


async def at_once() -> str:
    return "done"


async def failing() -> str:
    raise ValueError("made up")


async def endless() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_work_that_is_done_at_once_is_not_looked_after() -> None:
    looks = Looks(ends_at=1)
    assert await unless_ended(at_once(), looks, every_s=0.0001) == "done"
    assert looks.taken == 0


async def test_work_that_takes_longer_is_looked_after_until_it_is_done() -> None:
    looks = Looks()

    async def until_the_third_look() -> str:
        await looks.third.wait()
        return "done"

    assert await unless_ended(until_the_third_look(), looks, every_s=0.001) == "done"


async def test_work_on_a_run_that_ended_is_cancelled() -> None:
    stopped = asyncio.Event()

    async def noted() -> str:
        try:
            return await endless()
        finally:
            stopped.set()

    with pytest.raises(RunEnded):
        await unless_ended(noted(), Looks(ends_at=2), every_s=0.001)
    assert stopped.is_set()


async def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="made up"):
        await unless_ended(failing(), Looks(), every_s=1)


async def test_a_deadline_ends_the_work_too() -> None:
    stopped = asyncio.Event()

    async def noted() -> str:
        try:
            return await endless()
        finally:
            stopped.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await unless_ended(noted(), Looks(), every_s=1)
    assert stopped.is_set()


async def test_work_that_fails_while_it_is_stopped_is_not_complained_about() -> None:
    async def stubborn() -> str:
        try:
            return await endless()
        except asyncio.CancelledError:
            raise ValueError("made up") from None

    with pytest.raises(RunEnded):
        await unless_ended(stubborn(), Looks(ends_at=1), every_s=0.001)


async def test_work_that_overhears_a_cancellation_is_cancelled_again() -> None:
    ignored: list[int] = []

    async def hard_of_hearing() -> str:
        while True:
            try:
                return await endless()
            except asyncio.CancelledError:
                ignored.append(1)
                if len(ignored) > 2:
                    raise

    with pytest.raises(RunEnded):
        await unless_ended(hard_of_hearing(), Looks(ends_at=1), every_s=0.001)
    assert len(ignored) == 3
