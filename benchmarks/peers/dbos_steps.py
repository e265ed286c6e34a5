"""Five steps on DBOS: each durable in Postgres before the next begins.

    python dbos_steps.py POSTGRES_URL    prints a line of JSON

It imports nothing of the project: it runs in a virtual environment of its own.
"""

import asyncio
import json
import logging
import statistics
import sys
import time

from dbos import DBOS, DBOSConfig

ALONE, TOGETHER, AT_ONCE = 30, 160, 16


@DBOS.step()
async def answer(said: str, step: int) -> str:
    """An instant model."""
    return f"{said} {step}"


@DBOS.workflow()
async def five_steps(objective: str) -> str:
    """Each step reads the one before."""
    said = objective
    for step in range(5):
        said = await answer(said, step)
    return said


async def measure() -> dict[str, float]:
    """Latency of one alone in ms, and workflows a second at 16 at once."""
    for _ in range(5):
        await five_steps("warm up")
    took = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await five_steps("alone")
        took.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turns:
            await five_steps("together")

    await asyncio.gather(*(one() for _ in range(TOGETHER)))
    return {
        "alone_ms": statistics.median(took),
        "per_second": TOGETHER / (time.perf_counter() - began),
    }


def main() -> None:
    """Measure and print."""
    config: DBOSConfig = {"name": "bench", "system_database_url": sys.argv[1], "log_level": "ERROR"}
    config["run_admin_server"] = False
    logging.disable(logging.WARNING)
    DBOS(config=config)
    DBOS.launch()
    figures = asyncio.run(measure())
    DBOS.destroy()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
