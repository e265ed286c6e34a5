"""Cosignatures: a witness says of a checkpoint that it grew out of all that it signed before.

A cosignature is a signature line of a note. It covers two lines of its own, then the
checkpoint's whole text:

    cosignature/v1
    time <POSIX seconds>
    <origin>
    <tree size in decimal>
    <base64 of the root hash>

and consists of the seconds, 8 bytes big-endian, and an Ed25519 signature. A log's key and a
witness's never pass for each other: the kind of a key is part of its id.

Source: C2SP tlog-cosignature v1, its Ed25519 form.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from storage.errors import BadCheckpoint
from storage.note import (
    SIGNATURE_BYTES,
    Note,
    NoteSignature,
    VerifierKey,
    check_key_name,
    key_id,
    parse_note,
    parse_signatures,
)

COSIGNATURE_V1: Final = b"\x04"
TIME_BYTES: Final = 8
MAX_TIME_S: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """One verified statement of a witness.

    Attributes:
        name: the witness's key name.
        time_s: POSIX seconds at which it said so.
        line: the signature line, as it stands in a note.
    """

    name: str
    time_s: int
    line: NoteSignature


class CosignerKey(VerifierKey):
    """A witness's public key. As text: ``<name>+<key id>+<base64 of 0x04 and the key>``."""

    __slots__ = ()
    KIND: ClassVar[bytes] = COSIGNATURE_V1

    def check(self, text: str, signature: bytes) -> None:
        """Accepts a cosignature of this key over a checkpoint's text.

        Raises:
            BadCheckpoint: anything else.
        """
        if len(signature) != TIME_BYTES + SIGNATURE_BYTES:
            complaint = f"The cosignature of {self.name} does not have 72 bytes."
            raise BadCheckpoint(complaint)
        message = cosigned_message(text, time_of(signature))
        try:
            VerifyKey(self.public_key).verify(message, signature[TIME_BYTES:])
        except BadSignatureError as error:
            complaint = f"The cosignature of {self.name} does not cover the checkpoint."
            raise BadCheckpoint(complaint) from error

    def cosignatures(self, note: Note) -> tuple[Cosignature, ...]:
        """What this witness says of the note; empty if it says nothing.

        Raises:
            BadCheckpoint: a line that names this key is not its own.
        """
        found = note.by(self)
        for line in found:
            self.check(note.text, line.signature)
        return tuple(
            Cosignature(name=self.name, time_s=time_of(line.signature), line=line) for line in found
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAddress:
    """A witness that a log asks: where it listens, and its key.

    Attributes:
        url: what the paths of tlog-witness are appended to, without a slash at its end.
        key: that its cosignatures are checked against.
    """

    url: str
    key: CosignerKey

    @classmethod
    def parse(cls, text: str) -> "WitnessAddress":
        """Reads ``<url> <verifier key>``.

        Raises:
            BadCheckpoint: it is not of that form.
        """
        url, _, key = text.strip().partition(" ")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not key:
            raise BadCheckpoint("A witness is written as a URL, a space and its verifier key.")
        return cls(url=url.rstrip("/"), key=CosignerKey.parse(key.strip()))

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return f"{self.url} {self.key}"


def cosigned_message(text: str, time_s: int) -> bytes:
    """The bytes that a cosignature covers.

    Raises:
        BadCheckpoint: the time is none that the format can carry.
    """
    if not 0 <= time_s <= MAX_TIME_S:
        raise BadCheckpoint("A cosignature's time is from 0 to 2^63 - 1 seconds.")
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def time_of(signature: bytes) -> int:
    """The POSIX seconds that a cosignature begins with."""
    return int.from_bytes(signature[:TIME_BYTES])


def cosign(text: str, name: str, key: SigningKey, time_s: int) -> NoteSignature:
    """A witness's signature line for a checkpoint's text. Consistency is for the caller to check.

    Raises:
        BadCheckpoint: the name or the time cannot stand in a cosignature.
    """
    check_key_name(name)
    signed = key.sign(cosigned_message(text, time_s)).signature
    return NoteSignature(
        name=name,
        key_id=key_id(name, key.verify_key.encode(), COSIGNATURE_V1),
        signature=time_s.to_bytes(TIME_BYTES) + signed,
    )


def join_signatures(note: str, lines: Iterable[NoteSignature]) -> str:
    """The note with further signatures under its own; a line that it has already is left out.

    Raises:
        BadCheckpoint: the note is malformed, or would have too many signatures.
    """
    known = {str(line) for line in parse_note(note).signatures}
    new = dict.fromkeys(str(line) for line in lines)
    joined = note + "".join(f"{line}\n" for line in new if line not in known)
    parse_note(joined)
    return joined


def read_answer(text: str, body: str, key: CosignerKey) -> Cosignature:
    """The newest cosignature of this witness in the answer that it gave to a checkpoint.

    Lines of other keys are ignored, as the specification asks.

    Args:
        text: of the checkpoint that it was asked about.
        body: one or more signature lines.
        key: the witness that was asked.

    Raises:
        BadCheckpoint: it holds none, or one that does not cover the text.
    """
    found = key.cosignatures(Note(text=text, signatures=parse_signatures(body)))
    if not found:
        message = f"The answer carries no cosignature of {key.name}."
        raise BadCheckpoint(message)
    return max(found, key=lambda cosignature: cosignature.time_s)
