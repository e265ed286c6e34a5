"""What a log asks of a witness: to cosign a checkpoint, with the proof that it grew.

    old <size that the witness cosigned last>
    <base64 of a hash of the consistency proof>      none to 63 of these
    <empty line>
    <the checkpoint, a signed note>

Source: C2SP tlog-witness, add-checkpoint.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.checkpoint import SignedCheckpoint, parse_checkpoint
from storage.errors import BadCheckpoint
from storage.merkle import HASH_BYTES
from storage.note import MAX_NOTE_BYTES, decode_base64

MAX_PROOF_LINES: Final = 63
MAX_REQUEST_BYTES: Final = MAX_NOTE_BYTES + 4096
"""A note at its longest, and 63 proof lines of 45 bytes."""
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it was read; nothing of it is checked against a key.

    Attributes:
        old: the size from which the proof starts.
        proof: hashes of 32 bytes.
        signed: the checkpoint.
        note: the text that it was read from.
    """

    old: int
    proof: tuple[bytes, ...]
    signed: SignedCheckpoint
    note: str


def parse_request(body: bytes) -> Request:
    """Reads the body of a request.

    Raises:
        BadCheckpoint: it is malformed; one sentence says how.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadCheckpoint("The request is not UTF-8.") from error
    head, separator, note = text.partition("\n\n")
    if not separator:
        raise BadCheckpoint("The request has no empty line before the checkpoint.")
    first, *lines = head.split("\n")
    if len(lines) > MAX_PROOF_LINES:
        message = f"The consistency proof has more than {MAX_PROOF_LINES} lines."
        raise BadCheckpoint(message)
    old = _OLD.fullmatch(first)
    if old is None:
        raise BadCheckpoint('The first line is not "old", a space and a plain decimal number.')
    proof = tuple(_hash(line) for line in lines)
    return Request(old=int(old[1]), proof=proof, signed=parse_checkpoint(note), note=note)


def write_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body that asks to cosign this checkpoint."""
    lines = [f"old {old}", *(b64encode(step).decode() for step in proof), "", note]
    return "\n".join(lines).encode()


def _hash(line: str) -> bytes:
    step = decode_base64(line, "A line of the consistency proof is not base64.")
    if len(step) != HASH_BYTES:
        raise BadCheckpoint("A line of the consistency proof does not have 32 bytes.")
    return step
