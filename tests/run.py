"""Run the suite with coverage over every process it starts, and print what was covered.

`python -m tests.run [pytest arguments]`; the exit code is pytest's.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "erase"], cwd=ROOT, check=True)
    tests = subprocess.run([*coverage, "run", "-m", "pytest", *sys.argv[1:]], cwd=ROOT, check=False)
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)
    subprocess.run([*coverage, "report", "--skip-covered"], cwd=ROOT, check=False)
    return tests.returncode


if __name__ == "__main__":
    sys.exit(main())
