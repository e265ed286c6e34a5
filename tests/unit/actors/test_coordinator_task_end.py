import asyncio

import pytest

from actors.task_end import end_all


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    lost = []

    async def loses_the_first() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            lost.append(error)
        await asyncio.Event().wait()

    async def fails() -> None:
        raise ValueError("no luck")

    tasks = [asyncio.create_task(loses_the_first()), asyncio.create_task(fails())]
    await asyncio.wait(tasks[1:])
    async with asyncio.timeout(5):
        await end_all(tasks)
    assert len(lost) == 1
    assert tasks[0].cancelled()
    with pytest.raises(ValueError, match="no luck"):
        tasks[1].result()
