"""Files that survive a crash at any instant: made once, or replaced in one step."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from swarm.witness.errors import WitnessLocked

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


def create(path: Path, content: bytes) -> None:
    """Make a file that does not exist yet, readable by this user only, on the disk on return."""
    _write(path, os.O_CREAT | os.O_EXCL, lambda _: content)


def replace(path: Path, content: Callable[[int], bytes]) -> None:
    """Replace a file in one step; after a crash it is the old one or the new one.

    Args:
        path: of the file.
        content: what to write, given the inode number that the file is going to have.
    """
    draft = path.with_name(f"{path.name}.new")
    _write(draft, os.O_CREAT | os.O_TRUNC, content)
    draft.replace(path)
    sync_directory(path.parent)


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


def _write(path: Path, how: int, content: Callable[[int], bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | how | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content(os.fstat(descriptor).st_ino))
        file.flush()
        os.fsync(descriptor)
