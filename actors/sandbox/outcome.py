"""What a program in the sandbox may use up, and what came of it."""

from dataclasses import dataclass
from typing import Final, Literal

MIB: Final = 1024 * 1024

Ending = Literal[
    "finished",  # by itself, whatever its exit status says
    "signal",  # of a signal that it was sent or sent itself
    "timeout",
    "cpu",
    "memory",
    "processes",
    "file_size",
    "disk",
    "output",
]
"""Why a program ended. The last seven are limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use up.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: whole seconds of processor time of one process.
        memory_bytes: of all processes and files together.
        processes: processes and threads at once.
        file_bytes: the size of one file.
        disk_bytes: of all files, which are kept in memory.
        files: how many files and folders.
        open_files: of one process.
        output_bytes: kept of each of stdout and stderr, half from either end.
        flood_bytes: of one of them, with which the program is ended.
    """

    wall_s: float = 20.0
    cpu_s: int = 15
    memory_bytes: int = 512 * MIB
    processes: int = 32
    file_bytes: int = 16 * MIB
    disk_bytes: int = 64 * MIB
    files: int = 2_048
    open_files: int = 128
    output_bytes: int = 16 * 1024
    flood_bytes: int = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        ending: why it ended.
        exit_status: as a shell gives it: 128 and more for a signal; None if it was ended.
        stdout: as text, cut in the middle.
        stderr: likewise.
        wall_s: seconds that it took.
        cpu_s: seconds of processor time of it and of those that it waited for.
        memory_bytes: the most that was seen in use.
        files: files that it had at its end, its own among them.
        left_behind: processes that still ran when it ended; they were killed.
    """

    ending: Ending
    exit_status: int | None
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float
    memory_bytes: int
    files: int
    left_behind: int

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself, and says that all is well."""
        return self.ending == "finished" and self.exit_status == 0
