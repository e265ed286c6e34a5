"""The list of runs while the log loses some of them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from bus.received import Received
from bus.subjects import run_filter
from tests.unit.serve.fakes import Fakes, MemoryLog, submit


class TrimmedLog(MemoryLog):
    """A log that r2 leaves as soon as anybody has read that it was submitted."""

    async def read(
        self, subject_filter: str, *, after: int = 0, unseal: bool = True
    ) -> AsyncGenerator[Received, None]:
        if subject_filter == run_filter("r2"):
            return
        async with aclosing(super().read(subject_filter, after=after, unseal=unseal)) as events:
            async for received in events:
                yield received


async def test_a_run_that_leaves_the_log_meanwhile_is_left_out() -> None:
    fakes = Fakes(log=TrimmedLog())
    for run in ("r1", "r2", "r3"):
        await submit(fakes.log, run)
    async with fakes.client() as client:
        answer = await client.get("/v1/runs")
    assert answer.status_code == 200, answer.text
    assert [run["id"] for run in answer.json()["runs"]] == ["r1", "r3"]
