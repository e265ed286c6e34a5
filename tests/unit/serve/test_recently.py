"""Answers that are good for a moment."""

import asyncio

import pytest

from serve.recently import Recently
from storage.errors import StorageUnavailable


class Source:
    """Answers what it holds, when it is let; counts how often it was asked."""

    def __init__(self, value: str | None = "a") -> None:
        self.value = value
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.down = False

    async def read(self) -> str | None:
        self.asked += 1
        await self.open.wait()
        if self.down:
            raise StorageUnavailable
        return self.value


class Clock:
    s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recently(clock: Clock) -> Recently[str]:
    return Recently(fresh_s=2.0, stale_s=60.0, most=3, monotonic=clock)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_fresh_answer_is_given_again(recently: Recently[str], clock: Clock) -> None:
    source = Source()
    assert await recently.get("k", source.read) == "a"
    clock.s += 0.9
    assert await recently.get("k", source.read) == "a"
    assert source.asked == 1


async def test_an_old_answer_is_waited_for(recently: Recently[str], clock: Clock) -> None:
    source = Source()
    await recently.get("k", source.read)
    source.value = "b"
    clock.s += 2.0
    assert await recently.get("k", source.read) == "b"


async def test_past_its_half_an_answer_is_given_while_the_next_is_read(
    recently: Recently[str], clock: Clock
) -> None:
    source = Source()
    await recently.get("k", source.read)
    source.value = "b"
    source.open.clear()
    clock.s += 1.5
    assert await recently.get("k", source.read) == "a"
    assert await recently.get("k", source.read) == "a"
    source.open.set()
    await settled()
    assert await recently.get("k", source.read) == "b"
    assert source.asked == 2


async def test_what_ended_meanwhile_is_gone_and_not_kept(
    recently: Recently[str], clock: Clock
) -> None:
    source = Source()
    await recently.get("k", source.read)
    source.value = None
    clock.s += 1.5
    assert await recently.get("k", source.read) == "a"
    await settled()
    assert await recently.get("k", source.read) is None
    assert await recently.get("k", source.read) is None
    assert source.asked == 4


async def test_many_who_wait_ask_once_and_one_who_gives_up_disturbs_nobody(
    recently: Recently[str],
) -> None:
    source = Source()
    source.open.clear()
    waiting = [asyncio.create_task(recently.get("k", source.read)) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    source.open.set()
    assert await asyncio.gather(*waiting[1:]) == ["a"] * 4
    assert source.asked == 1


async def test_the_last_answer_stands_in_for_a_while(recently: Recently[str], clock: Clock) -> None:
    source = Source()
    await recently.get("k", source.read)
    source.down = True
    clock.s += 60.0
    assert await recently.get("k", source.read) == "a"
    clock.s += 0.1
    with pytest.raises(StorageUnavailable):
        await recently.get("k", source.read)
    with pytest.raises(StorageUnavailable):
        await recently.get("other", source.read)


async def test_what_is_forgotten_is_read_anew(recently: Recently[str]) -> None:
    source = Source()
    await recently.get("k", source.read)
    recently.forget("k")
    await recently.get("k", source.read)
    recently.forget_all()
    await recently.get("k", source.read)
    assert source.asked == 3


async def test_no_more_is_kept_than_there_is_room_for(recently: Recently[str]) -> None:
    sources = [Source(str(number)) for number in range(5)]
    for number, source in enumerate(sources):
        await recently.get(str(number), source.read)
    for number in (4, 3, 2):
        await recently.get(str(number), sources[number].read)
    assert [source.asked for source in sources] == [1, 1, 1, 1, 1]
    await recently.get("0", sources[0].read)
    assert sources[0].asked == 2
