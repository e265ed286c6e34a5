"""Run the suite with coverage over every process it starts, and print what was covered.

`python -m tests.run [pytest arguments]`; the exit code is pytest's. Without arguments the suite
is run in two sessions beside each other: what starts whole swarms often waits for them.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
WHOLE_SWARMS = ("tests/faults", "tests/e2e")
"""What runs vLLM comes last: the other session has ended by then, and leaves it both cores."""
THE_REST = ("tests/chaos", "tests/integration", "tests/properties", "tests/security", "tests/unit")
COVERAGE = (sys.executable, "-m", "coverage")


def main() -> int:
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    code = beside_each_other() if len(sys.argv) == 1 else started(sys.argv[1:]).wait()
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=False)
    subprocess.run([*COVERAGE, "report", "--skip-covered"], cwd=ROOT, check=False)
    return code


def beside_each_other() -> int:
    """Run both halves of the suite; the second one's output follows the first one's."""
    with tempfile.TemporaryFile("w+") as output:
        rest = started(THE_REST, output)
        try:
            codes = started(WHOLE_SWARMS).wait(), rest.wait()
        finally:
            if rest.poll() is None:
                rest.terminate()
                rest.wait()
            output.seek(0)
            print(output.read())
    return max(codes)


def started(arguments: Sequence[str], output: IO[str] | None = None) -> "subprocess.Popen[bytes]":
    """A session of pytest that has begun."""
    command = [*COVERAGE, "run", "-m", "pytest", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output and subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
