"""A witness that ends as by kill -9 at one exact instant of writing down what it signs.

`python -m tests.faults.dying_witness before-fsync ...`, the rest as for swarm.witness.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from swarm.witness.__main__ import main
from swarm.witness.witness import Witness

# What keep() calls, in this order: the mark is made, fsync of it and of the directory; the draft
# is written; fsync; replace; fsync of the directory; the mark of the state before is removed;
# fsync of the directory.
INSTANTS = {
    "before-mark-fsync": ("fsync", 1, "before"),
    "after-mark": ("fsync", 2, "after"),
    "before-fsync": ("fsync", 3, "before"),
    "before-replace": ("replace", 1, "before"),
    "after-replace": ("replace", 1, "after"),
    "before-old-mark-goes": ("unlink", 1, "before"),
    "after-old-mark-went": ("unlink", 1, "after"),
    "before-answer": ("fsync", 5, "after"),
}
WRITTEN_DOWN = {"after-replace", "before-old-mark-goes", "after-old-mark-went", "before-answer"}


def dies(call: Callable[..., Any], number: int, moment: str) -> Callable[..., Any]:
    """The call; the one of that number is the last thing that this process does."""
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*arguments, **options)
        if calls == number and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


def arm(instant: str) -> None:
    """From the first request on."""
    name, number, moment = INSTANTS[instant]
    answer = Witness.add_checkpoint

    def armed(self: Witness, body: bytes) -> Any:
        setattr(os, name, dies(getattr(os, name), number, moment))
        return answer(self, body)

    setattr(Witness, "add_checkpoint", armed)  # noqa: B010 - mypy has no say in this


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
