"""Run the same five-step workflow on each peer, beside an empty Postgres each."""

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.world import postgres

PEERS = {"DBOS on Postgres": "dbos_steps.py", "LangGraph on Postgres": "langgraph_steps.py"}
DEADLINE_S = 180


async def measure(python: Path) -> dict[str, dict[str, float]]:
    """Figures of each peer: ``alone_ms`` (median) and ``per_second`` (16 at once).

    Args:
        python: of the virtual environment that holds the peers.
    """
    return {name: await _run(python, script) for name, script in PEERS.items()}


async def _run(python: Path, script: str) -> dict[str, float]:
    with postgres() as url:
        peer = await asyncio.create_subprocess_exec(
            python, Path(__file__).with_name(script), url, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(DEADLINE_S):
            printed, _ = await peer.communicate()
    if peer.returncode != 0:
        raise RuntimeError(f"{script} ended with {peer.returncode}")
    figures: dict[str, float] = json.loads(printed.decode().strip().rpartition("\n")[2])
    return figures


async def main() -> None:
    """Print the figures."""
    print("The same five steps on peers, unsigned, each in one process beside Postgres")
    for name, figures in (await measure(Path(sys.argv[1]))).items():
        alone, together = figures["alone_ms"], figures["per_second"]
        print(f"  {name:<24} alone {alone:7.2f} ms   16 at once {together:6.1f} workflows/s")


if __name__ == "__main__":
    asyncio.run(main())
