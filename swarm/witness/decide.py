"""Whether to cosign: the whole judgement of a witness, as a pure function.

A checkpoint is cosigned only if the log signed it and it is shown to have grown out of the
one that was cosigned last. So of two branches of a log at most one is ever cosigned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.checkpoint import Checkpoint
from storage.cosign_request import Request
from storage.cosignature import CosignerKey
from storage.errors import BadCheckpoint, BadProof
from storage.merkle import EMPTY_ROOT, verify_consistency
from storage.note import Note, NoteSignature, VerifierKey

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
UNPROCESSABLE: Final = 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the witness cosigned last.

    Attributes:
        size: number of leaves, 0 if it never cosigned.
        root: root hash at that size.
        time_s: POSIX seconds of that cosignature, 0 if there is none.
    """

    size: int = 0
    root: bytes = EMPTY_ROOT
    time_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Whose checkpoints are cosigned, and by whom.

    Attributes:
        origin: the log, as the first line of its checkpoints names it.
        log_keys: the keys that may sign its checkpoints; while one takes another's place, both.
        own_key: the witness's own.
    """

    origin: str
    log_keys: tuple[VerifierKey, ...]
    own_key: CosignerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosign:
    """The checkpoint grew out of what is known: keep it, then cosign it."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """The witness is shown its own cosignature of more than it knows: its state went back.

    What is shown is kept as known, and nothing is cosigned.
    """

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The checkpoint is not cosigned.

    Attributes:
        status: of HTTP, as tlog-witness gives it.
        reason: one sentence.
        contradicts: whether what the log signed cannot go with what is known, by itself.
        unproven: whether it says more than what is known and was not shown to have grown out of
            it. It may be a branch; the proof may as well be bad, and anybody can send a bad one.
    """

    status: int
    reason: str
    contradicts: bool = False
    unproven: bool = False


Decision = Cosign | Remember | Refuse


def decide(known: Known, request: Request, parties: Parties) -> Decision:
    """The judgement; the order of its parts is that of the specification."""
    checkpoint = request.signed.checkpoint
    if checkpoint.origin != parties.origin:
        return Refuse(status=NOT_FOUND, reason="This witness does not know that log.")
    try:
        log_lines(request.signed.note, parties.log_keys)
        cosigned = parties.own_key.cosignatures(request.signed.note)
    except BadCheckpoint as error:
        return Refuse(status=FORBIDDEN, reason=str(error))
    if request.old > checkpoint.size:
        return Refuse(status=BAD_REQUEST, reason="The old size is larger than the checkpoint's.")
    if cosigned and checkpoint.size > known.size:
        return Remember(checkpoint=checkpoint)
    return _judge_growth(known, request)


def log_lines(note: Note, keys: Sequence[VerifierKey]) -> tuple[NoteSignature, ...]:
    """The log's own signature lines of a checkpoint, each once: of one of its keys at least.

    Raises:
        BadCheckpoint: none of the keys signed, or a line that names one is not its own.
    """
    signers = [key for key in keys if note.by(key)]
    if not signers:
        raise BadCheckpoint("The checkpoint carries no signature of the log.")
    for key in signers:
        note.verify(key)
    return tuple(dict.fromkeys(line for key in signers for line in note.by(key)))


def _judge_growth(known: Known, request: Request) -> Cosign | Refuse:
    """Another root of the same size speaks for itself, whatever the request says beside it."""
    checkpoint = request.signed.checkpoint
    if checkpoint.size == known.size and checkpoint.root != known.root:
        message = f"Another root was cosigned for {known.size} leaves."
        return Refuse(status=CONFLICT, reason=message, contradicts=True)
    if request.old != known.size:
        message = f"The checkpoint that was cosigned last has {known.size} leaves."
        return Refuse(status=CONFLICT, reason=message)
    try:
        verify_consistency(
            old=known.size,
            new=checkpoint.size,
            proof=request.proof,
            old_root=known.root,
            new_root=checkpoint.root,
        )
    except BadProof as error:
        unproven = 0 < known.size < checkpoint.size
        return Refuse(status=UNPROCESSABLE, reason=str(error), unproven=unproven)
    return Cosign(checkpoint=checkpoint)
