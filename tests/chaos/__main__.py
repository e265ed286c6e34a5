"""`make chaos`: kill parts of a swarm at random while it works, and judge its log.

python -m tests.chaos [--runs N] [--kills N] [--seed N]
"""

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.suite import report, unleash


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="repeats victims and moments")
    parser.add_argument("--keep", type=Path, default=None, help="a new folder to leave it all in")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}: {options.runs} runs, {options.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="swarm-chaos-") as directory:
        folder = Path(directory) if options.keep is None else options.keep
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(unleash(folder, seed=seed, runs=options.runs, kills=options.kills))
    print(report(outcome))
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
