"""Files that survive a crash at any instant: made once, or replaced in one step."""

import errno
import fcntl
import os
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm.witness.errors import WitnessLocked

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700
TICK_S: Final = 0.002
"""Between two looks at the file system's clock: Linux moves it every 1 to 10 ms, or finer."""
LONGEST_TICK_S: Final = 3.0
"""The coarsest file systems count in steps of two seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a copy of a file cannot have: its inode and its time of change (ctime) at once."""

    inode: int
    ctime_ns: int


def create(path: Path, content: bytes) -> None:
    """Make a file that does not exist yet, readable by this user only, on the disk on return."""
    _write(path, os.O_CREAT | os.O_EXCL, content)


def replace(path: Path, content: bytes) -> None:
    """Replace a file in one step; after a crash it is the old one or the new one."""
    draft = path.with_name(f"{path.name}.new")
    _write(draft, os.O_CREAT | os.O_TRUNC, content)
    draft.replace(path)
    sync_directory(path.parent)


def stamp(path: Path, *, unlike: Container[int]) -> Stamp:
    """Make an empty file, on the disk on return; one that is there is changed now.

    Args:
        path: of the file.
        unlike: times of change, in nanoseconds, that it must not have. It is waited until the
            file system's clock has moved on from them.

    Raises:
        OSError: that clock does not move, or the disk failed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        until = time.monotonic() + LONGEST_TICK_S
        os.utime(descriptor)
        while os.fstat(descriptor).st_ctime_ns in unlike:
            if time.monotonic() > until:
                raise OSError(errno.ETIME, "Times of change stand still on this file system")
            time.sleep(TICK_S)
            os.utime(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
    return stamp_of(path)


def stamp_of(path: Path) -> Stamp:
    """The stamp that a file has now."""
    status = path.stat()
    return Stamp(inode=status.st_ino, ctime_ns=status.st_ctime_ns)


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; the end of the process, however it comes, frees it.

    Raises:
        WitnessLocked: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"Another process has {path.parent} open."
            raise WitnessLocked(message) from error
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, how: int, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | how | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
