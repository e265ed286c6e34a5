"""Where a witness keeps its key and what it signed last: a directory of its own.

    lock              held by the one process of this witness
    key               seed in hex, made once, mode 0600
    state.json        the checkpoint cosigned last, with the cosignature
    mark-...          by which a state.json that was copied back is told (kept.py)
    contradictions/   checkpoints that the log signed and that cannot go with it
    unproven/         some that say more and were not shown to have grown out of it

The state is replaced in one step and is on the disk before `keep` returns. What was copied back
from somewhere, the directory or files of it, may be older than what was signed last, and is
refused. A snapshot of the whole file system that is set back cannot be told from here; the log
can tell, and shows the witness its own cosignature.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from storage.checkpoint import SignedCheckpoint, parse_checkpoint
from storage.cosignature import CosignerKey
from storage.errors import BadCheckpoint
from storage.note import VerifierKey
from swarm.witness import disk
from swarm.witness.decide import Known, Parties, log_lines
from swarm.witness.errors import WitnessMismatch, WitnessNotUsable, WitnessStateLost
from swarm.witness.kept import (
    KEY,
    Kept,
    KeptBefore,
    original,
    read_kept,
    remove_other_marks,
    write_kept,
)

SEED_BYTES: Final = 32
MOST_CONTRADICTIONS: Final = 64
"""Files kept at most: whoever has the log's key could fill the disk otherwise."""
MOST_UNPROVEN: Final = 16
"""Fewer, as anybody can show a true checkpoint with a bad proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The log that a witness watches: its origin, and the keys that may sign for it."""

    origin: str
    keys: tuple[VerifierKey, ...]


class StateDirectory:
    """The open directory of a witness; `open_state` makes one."""

    def __init__(self, path: Path, key: SigningKey, parties: Parties) -> None:
        self.path = path
        self.key = key
        self.parties = parties
        self.known = Known()
        self.note: str | None = None
        """The checkpoint cosigned last, with the log's signature and the witness's own."""

    def keep(self, note: str) -> None:
        """Put what is about to be handed out on the disk; from then on it is known.

        Args:
            note: the checkpoint with the witness's cosignature.

        Raises:
            BadCheckpoint: the log or this witness did not sign it.
            OSError: it may or may not be on the disk; the directory must be opened anew.
        """
        known = known_of(note, self.parties)
        self.write(note)
        self.known, self.note = known, note

    def write(self, note: str | None) -> None:
        """Replace the state file; any that was there before counts as a copy from then on."""
        parties = self.parties
        write_kept(self.path, witness=str(parties.own_key), origin=parties.origin, note=note)

    def keep_contradiction(self, signed: SignedCheckpoint) -> None:
        """Keep what the log signed against itself, as evidence; only the first of them."""
        self._keep_evidence("contradictions", signed, MOST_CONTRADICTIONS)

    def keep_unproven(self, signed: SignedCheckpoint) -> None:
        """Keep what may be a branch; only the first of them."""
        self._keep_evidence("unproven", signed, MOST_UNPROVEN)

    def _keep_evidence(self, name: str, signed: SignedCheckpoint, most: int) -> None:
        """Under the log's own signatures: a line that a stranger added makes no other file."""
        folder = self.path / name
        folder.mkdir(mode=disk.PRIVATE_DIRECTORY, exist_ok=True)
        note, size = signed.note, signed.checkpoint.size
        path = folder / f"{size}-{hashlib.sha256(note.text.encode()).hexdigest()[:16]}.note"
        if not path.exists() and len(list(folder.iterdir())) < most:
            lines = log_lines(note, self.parties.log_keys)
            disk.replace(path, note.under(lines).encode())


@contextmanager
def open_state(
    path: Path, watched: Watched, name: str | None = None, *, newest: str | None = None
) -> Iterator[StateDirectory]:
    """The directory, made at the first time, and locked until the end.

    Args:
        path: of the directory.
        watched: the log.
        name: the witness's key name; None takes the one that it was given at first.
        newest: a note with this witness's cosignature, to go on from after a loss.

    Raises:
        WitnessLocked: another process has it.
        WitnessMismatch: it was made for another log or name.
        WitnessStateLost: what was signed last is not certain, and newest does not tell.
        WitnessNotUsable: it cannot be read or written.
    """
    with ExitStack() as stack:
        try:
            path.mkdir(mode=disk.PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            stack.enter_context(disk.locked(path / "lock"))
            state = _open(path, watched, name, newest)
        except OSError as error:
            message = f"Cannot use {path}: {error.strerror or error}."
            raise WitnessNotUsable(message) from error
        yield state


def known_of(note: str, parties: Parties) -> Known:
    """What a cosigned note says that was cosigned.

    Raises:
        BadCheckpoint: the log or the witness did not sign it.
    """
    signed = parse_checkpoint(note)
    checkpoint = signed.checkpoint
    if checkpoint.origin != parties.origin:
        raise BadCheckpoint(f"The checkpoint is of {checkpoint.origin}, not of {parties.origin}.")
    log_lines(signed.note, parties.log_keys)
    signed.note.verify(parties.own_key)
    latest = max(cosigned.time_s for cosigned in parties.own_key.cosignatures(signed.note))
    return Known(size=checkpoint.size, root=checkpoint.root, time_s=latest)


def default_name() -> str:
    """A key name for a witness that was given none: the machine's own."""
    host = "".join(c for c in os.uname().nodename if c.isalnum() or c in ".-")
    return f"{host or 'localhost'}/witness"


def _open(path: Path, watched: Watched, name: str | None, newest: str | None) -> StateDirectory:
    kept = read_kept(path, may_be_damaged=newest is not None)
    if not (path / KEY).exists():
        if kept is not None and kept.note is not None:
            raise WitnessStateLost(f"The key in {path} is gone; nothing can take its place.")
        return _begin(path, watched, default_name() if name is None else name)
    if name is None and kept is not None:
        name = kept.witness.partition("+")[0]
    if name is None:
        raise WitnessStateLost(f"{path} does not say what its key is called: give --name.")
    key = _read_key(path / KEY)
    state = StateDirectory(path, key, _parties(watched, name, key))
    if kept is not None:
        _check_belongs(kept, state)
    if newest is not None:
        _go_on_from(newest, kept, state)
    elif kept is None:
        raise WitnessStateLost(f"{path} holds a key, but not what was signed with it last.")
    else:
        last = original(kept, path)
        _take_over(last, state)
        remove_other_marks(path, last)
    return state


def _begin(path: Path, watched: Watched, name: str) -> StateDirectory:
    """A new key. It appears last, so that a key without a state is always a loss."""
    key = SigningKey.generate()
    state = StateDirectory(path, key, _parties(watched, name, key))
    draft = path / "key.new"
    draft.unlink(missing_ok=True)
    disk.create(draft, bytes(key).hex().encode())
    state.write(None)
    draft.rename(path / KEY)
    disk.sync_directory(path)
    return state


def _parties(watched: Watched, name: str, key: SigningKey) -> Parties:
    try:
        own = CosignerKey(name=name, public_key=key.verify_key.encode())
    except BadCheckpoint as error:
        raise WitnessMismatch(f"{name!r} cannot be the name of a witness: {error}") from error
    return Parties(origin=watched.origin, log_keys=watched.keys, own_key=own)


def _check_belongs(kept: Kept | KeptBefore, state: StateDirectory) -> None:
    parties = state.parties
    if (str(parties.own_key), parties.origin) != (kept.witness, kept.origin):
        message = f"{state.path} belongs to {kept.witness} and the log {kept.origin}."
        raise WitnessMismatch(message)


def _take_over(kept: Kept | KeptBefore, state: StateDirectory) -> None:
    if kept.note is None:
        return
    try:
        note = parse_checkpoint(kept.note).note
        if not any(note.by(key) for key in state.parties.log_keys):
            signer = note.signatures[0]
            message = (
                f"What {state.path} holds was signed by {signer.name} (key id "
                f"{signer.key_id.hex()}): give that key of the log too."
            )
            raise WitnessMismatch(message)
        state.known, state.note = known_of(kept.note, state.parties), kept.note
    except BadCheckpoint as error:
        raise WitnessStateLost(f"The state in {state.path} is damaged: {error}") from error


def _go_on_from(newest: str, kept: Kept | KeptBefore | None, state: StateDirectory) -> None:
    """From the larger of what is given and what is there."""
    try:
        given = known_of(newest, state.parties)
    except BadCheckpoint as error:
        raise WitnessStateLost(f"The newest checkpoint cannot be used: {error}") from error
    if kept is not None:
        _take_over(kept, state)
    larger = newest if given.size >= state.known.size else state.note
    state.keep(larger or newest)


def _read_key(path: Path) -> SigningKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        message = f"Others may read {path}: chmod 600 it and give --newest, or make a new witness."
        raise WitnessNotUsable(message)
    try:
        seed = bytes.fromhex(path.read_text())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise WitnessStateLost(f"The key in {path} is damaged.")
    return SigningKey(seed)
