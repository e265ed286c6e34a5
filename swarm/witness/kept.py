"""The state file of a witness, and whether it is the one that was written last.

A time of change (ctime) is set by the kernel: cp, tar and rsync cannot set it back. So each
state names a mark, a file made for it:

    mark-<digest of the state that it follows>      empty; inode and time of change count

The mark is on the disk before its state is, and all others are removed before what was signed
is handed out. What is copied back is an older state, whose mark is gone, or comes with a mark
that was changed just now. After a crash at any instant the state that is there has its mark:
its own, with the next one's beside it, or the next one with the old one's still there.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from swarm.witness import disk
from swarm.witness.disk import Stamp
from swarm.witness.errors import WitnessStateLost

STATE: Final = "state.json"
KEY: Final = "key"


class _Said(BaseModel):
    """What each version says. The signatures of the note say whether it is intact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    witness: str
    origin: str
    note: str | None


class Kept(_Said):
    """The state file.

    Attributes:
        follows: digest of the state file before it, which is in its mark's name.
        mark: of the mark.
        key: of the key file; None in the first one, which was there before the key was.
    """

    version: Literal[2] = 2
    follows: str
    mark: Stamp
    key: Stamp | None


class KeptBefore(_Said):
    """As it was before there were marks: it named inodes, which come again, and tells nothing."""

    model_config = ConfigDict(extra="ignore")
    version: Literal[1]


_READER: Final[TypeAdapter[Kept | KeptBefore]] = TypeAdapter(
    Annotated[Kept | KeptBefore, Field(discriminator="version")]
)


def write_kept(path: Path, *, witness: str, origin: str, note: str | None) -> None:
    """Replace the state in a directory; on return it is the only one that counts."""
    follows = _digest(path)
    others = {mark.stat().st_ctime_ns for mark in _marks(path)}
    stamp = disk.stamp(_mark(path, follows), unlike=others)
    key = disk.stamp_of(path / KEY) if (path / KEY).exists() else None
    kept = Kept(witness=witness, origin=origin, follows=follows, mark=stamp, key=key, note=note)
    disk.replace(path / STATE, kept.model_dump_json(indent=2).encode())
    remove_other_marks(path, kept)


def remove_other_marks(path: Path, kept: Kept) -> None:
    """What a crash left, or the mark of the state before: an older state has none any more."""
    others = [mark for mark in _marks(path) if mark != _mark(path, kept.follows)]
    for mark in others:
        mark.unlink()
    if others:
        disk.sync_directory(path)


def read_kept(path: Path, *, may_be_damaged: bool) -> Kept | KeptBefore | None:
    """The state in a directory; None if there is none.

    Raises:
        WitnessStateLost: it cannot be read, and it is not said that it may be so.
    """
    try:
        return _READER.validate_json((path / STATE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        if may_be_damaged:
            return None
        raise WitnessStateLost(f"{path / STATE} is damaged and cannot be read.") from error


def original(kept: Kept | KeptBefore, path: Path) -> Kept:
    """Accepts a state that was written here, and none after it.

    Raises:
        WitnessStateLost: anything else. Another mode or owner cannot be told from a copy, nor
            can a state of before there were marks.
    """
    if isinstance(kept, KeptBefore):
        message = (
            f"{path} holds a state of an earlier version, which looks the same where an old one "
            "was put back: it is taken over with --newest only."
        )
        raise WitnessStateLost(message)
    if not _is_original(kept, path):
        message = (
            f"{path} is a copy, or its mode or owner was changed, which looks the same: "
            "the witness may have signed more since."
        )
        raise WitnessStateLost(message)
    return kept


def _is_original(kept: Kept, path: Path) -> bool:
    mark = _mark(path, kept.follows)
    if not mark.exists() or disk.stamp_of(mark) != kept.mark:
        return False
    return kept.key is None or disk.stamp_of(path / KEY) == kept.key


def _digest(path: Path) -> str:
    state = path / STATE
    return hashlib.sha256(state.read_bytes() if state.exists() else b"").hexdigest()


def _mark(path: Path, follows: str) -> Path:
    return path / f"mark-{follows}"


def _marks(path: Path) -> list[Path]:
    return list(path.glob("mark-*"))
