"""Signed notes: text under one or more named Ed25519 signatures.

    <text, ends in a newline>
    <empty line>
    — <key name> <base64 of 4 bytes key id and 64 bytes signature>

A key travels as a verifier key: ``<name>+<key id in hex>+<base64 of 0x01 and
the public key>``. A checker ignores signatures of keys that it does not know,
and refuses the note where the one of a key that it does know fails.

Source: C2SP signed-note v1.0.0; Go's golang.org/x/mod/sumdb/note for the
verifier key.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from storage.errors import BadCheckpoint

ED25519 = b"\x01"
KEY_ID_BYTES = 4
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_SIGNATURES = 64
"""Lines read of one note; the specification asks for at least 16."""
MAX_NOTE_BYTES = 64 * 1024
_DASH = "\u2014 "


def key_id(name: str, public_key: bytes, kind: bytes = ED25519) -> bytes:
    """The four bytes that, with the name, say which key signed, and what kind of signature."""
    return hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()[:KEY_ID_BYTES]


def check_key_name(name: str) -> None:
    """Accepts a name that can stand in a signature line.

    Raises:
        BadCheckpoint: it is empty, or has white space, a plus or a control
            character in it.
    """
    if not name:
        raise BadCheckpoint("A key name must not be empty.")
    if "+" in name or any(c.isspace() or c < " " for c in name):
        raise BadCheckpoint("A key name must not contain spaces, plus signs or control characters.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A named public key, as verifiers pass it on.

    Attributes:
        name: key name, by convention a URL without scheme.
        public_key: 32 bytes, Ed25519.
    """

    KIND: ClassVar[bytes] = ED25519
    """The byte that says what its signatures cover, and how."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_BYTES:
            raise BadCheckpoint("An Ed25519 public key has 32 bytes.")

    @property
    def id(self) -> bytes:
        """The key id, four bytes."""
        return key_id(self.name, self.public_key, self.KIND)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``name+keyid+base64``, a trailing newline allowed.

        Raises:
            BadCheckpoint: the text is not a verifier key, or of another kind.
        """
        parts = text.removesuffix("\n").split("+", 2)
        if len(parts) != 3:  # noqa: PLR2004 - name, key id, key
            raise BadCheckpoint("A verifier key has three parts joined by plus signs.")
        name, hex_id, encoded = parts
        typed_key = decode_base64(encoded, "The verifier key's public key is not base64.")
        if typed_key[:1] != cls.KIND:
            message = f"The verifier key is not of type 0x{cls.KIND.hex()}."
            raise BadCheckpoint(message)
        key = cls(name=name, public_key=typed_key[1:])
        if hex_id != key.id.hex():
            raise BadCheckpoint("The verifier key's id does not belong to its name and key.")
        return key

    def __str__(self) -> str:
        """The verifier key as text, without a newline."""
        encoded = base64.b64encode(self.KIND + self.public_key).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    def check(self, text: str, signature: bytes) -> None:
        """Accepts a signature of this key over a note's text.

        Raises:
            BadCheckpoint: anything else.
        """
        try:
            VerifyKey(self.public_key).verify(text.encode(), signature)
        except (BadSignatureError, ValueError) as error:
            message = f"The signature of {self.name} does not cover the note's text."
            raise BadCheckpoint(message) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line: who signed (name and four-byte key id), and the signature."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line as it stands in a note, without its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A parsed note, not yet verified.

    Attributes:
        text: what is signed, its final newline included.
        signatures: all lines in order, also of unknown keys.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def verify(self, key: VerifierKey) -> None:
        """Accepts the note if this key signed it.

        Raises:
            BadCheckpoint: the key signed nothing, or a signature of it is wrong.
        """
        known = self.by(key)
        if not known:
            message = f"The note carries no signature of {key.name} (key id {key.id.hex()})."
            raise BadCheckpoint(message)
        for line in known:
            key.check(self.text, line.signature)

    def under(self, signatures: Iterable[NoteSignature]) -> str:
        """The text as a note under these signatures; they are not checked."""
        return f"{self.text}\n" + "".join(f"{line}\n" for line in signatures)

    def by(self, key: VerifierKey) -> tuple[NoteSignature, ...]:
        """The signatures that name this key; whether they are its own, `verify` says."""
        return tuple(s for s in self.signatures if s.name == key.name and s.key_id == key.id)


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """The text as a note under one signature.

    Raises:
        BadCheckpoint: the text or the name cannot stand in a note.
    """
    check_key_name(name)
    if not text.endswith("\n"):
        raise BadCheckpoint("The note's text must end in a newline.")
    _check_characters(text)
    public_key = key.verify_key.encode()
    signed = NoteSignature(
        name=name, key_id=key_id(name, public_key), signature=key.sign(text.encode()).signature
    )
    return f"{text}\n{signed}\n"


def parse_note(note: str) -> Note:
    """Splits a note into its text and its signatures; proves nothing.

    Raises:
        BadCheckpoint: the note is malformed; one sentence says how.
    """
    if len(note) > MAX_NOTE_BYTES:
        message = f"The note is longer than {MAX_NOTE_BYTES} characters."
        raise BadCheckpoint(message)
    _check_characters(note)
    text, separator, block = note.rpartition("\n\n")
    if not separator:
        raise BadCheckpoint("The note has no empty line between its text and its signatures.")
    if not block.endswith("\n"):
        raise BadCheckpoint("The note does not end in a newline.")
    return Note(text=text + "\n", signatures=parse_signatures(block))


def parse_signatures(block: str) -> tuple[NoteSignature, ...]:
    """Reads signature lines, each with its newline, without the text that they belong to.

    Raises:
        BadCheckpoint: a line is malformed, or there are too many.
    """
    lines = block.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        message = f"The note has more than {MAX_SIGNATURES} signatures."
        raise BadCheckpoint(message)
    return tuple(_signature(line) for line in lines)


def _signature(line: str) -> NoteSignature:
    if not line.startswith(_DASH):
        raise BadCheckpoint("A signature line does not begin with an em dash and a space.")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not space:
        raise BadCheckpoint("A signature line has no signature after the key name.")
    check_key_name(name)
    signed = decode_base64(encoded, "A signature line's signature is not base64.")
    if len(signed) <= KEY_ID_BYTES:
        raise BadCheckpoint("A signature line's signature is too short.")
    return NoteSignature(name=name, key_id=signed[:KEY_ID_BYTES], signature=signed[KEY_ID_BYTES:])


def _check_characters(text: str) -> None:
    if any(character < " " and character != "\n" for character in text):
        raise BadCheckpoint("A note must not contain control characters other than newlines.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadCheckpoint("A note must be valid UTF-8.") from error


def decode_base64(text: str, complaint: str) -> bytes:
    """Standard base64 in its one canonical spelling.

    Raises:
        BadCheckpoint: with the given complaint.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCheckpoint(complaint) from error
    if base64.b64encode(decoded).decode() != text:  # one spelling only
        raise BadCheckpoint(complaint)
    return decoded
