"""Five steps on LangGraph: each checkpointed in Postgres before the next begins.

    python langgraph_steps.py POSTGRES_URL    prints a line of JSON

It imports nothing of the project: it runs in a virtual environment of its own.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import TypedDict
from uuid import uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

ALONE, TOGETHER, AT_ONCE = 30, 160, 16


class State(TypedDict):
    """What the steps read and write."""

    said: str


async def answer(state: State) -> State:
    """An instant model."""
    return {"said": state["said"] + " again"}


async def measure(url: str) -> dict[str, float]:
    """Latency of one alone in ms, and workflows a second at 16 at once."""
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=AT_ONCE, max_size=AT_ONCE, kwargs=options) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        graph = StateGraph(State)
        names = [f"step{number}" for number in range(5)]
        for name in names:
            graph.add_node(name, answer)
        for before, after in zip([START, *names], [*names, END], strict=True):
            graph.add_edge(before, after)
        compiled = graph.compile(checkpointer=saver)

        async def one() -> None:
            thread = {"configurable": {"thread_id": uuid4().hex}}
            await compiled.ainvoke({"said": "x"}, thread, durability="sync")

        for _ in range(5):
            await one()
        took = []
        for _ in range(ALONE):
            began = time.perf_counter()
            await one()
            took.append((time.perf_counter() - began) * 1000)
        turns = asyncio.Semaphore(AT_ONCE)

        async def in_turn() -> None:
            async with turns:
                await one()

        began = time.perf_counter()
        await asyncio.gather(*(in_turn() for _ in range(TOGETHER)))
        rate = TOGETHER / (time.perf_counter() - began)
        return {"alone_ms": statistics.median(took), "per_second": rate}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1]))))
