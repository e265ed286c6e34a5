"""Tree checkpoints: a Merkle tree's size and root in a signed note.

    <origin>
    <tree size in decimal>
    <base64 of the root hash>

Source: C2SP tlog-checkpoint v1.0.0. Extension lines, which it discourages,
are read and kept but never written.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass

from nacl.signing import SigningKey

from storage.errors import BadCheckpoint
from storage.merkle import HASH_BYTES
from storage.note import Note, VerifierKey, decode_base64, parse_note, sign_note

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself at one moment.

    Attributes:
        origin: the log's identity, a URL without scheme.
        size: number of leaves.
        root: 32 bytes.
        extensions: further lines of the note, opaque.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The text to sign, its final newline included."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A parsed checkpoint beside the note that it was read from, not yet verified."""

    checkpoint: Checkpoint
    note: Note

    def verify(self, key: VerifierKey, *, origin: str | None = None) -> Checkpoint:
        """The checkpoint, once the log's key and origin have been checked.

        Args:
            key: the log's key.
            origin: the log that was asked; by convention the key's name.

        Raises:
            BadCheckpoint: another log's, or not signed by that key.
        """
        expected = key.name if origin is None else origin
        if self.checkpoint.origin != expected:
            message = f"The checkpoint is of {self.checkpoint.origin}, not of {expected}."
            raise BadCheckpoint(message)
        self.note.verify(key)
        return self.checkpoint


def parse_checkpoint(note: str) -> SignedCheckpoint:
    """Reads a checkpoint; proves nothing before verify().

    Raises:
        BadCheckpoint: the note is malformed; one sentence says how.
    """
    parsed = parse_note(note)
    lines = parsed.text.removesuffix("\n").split("\n")
    if len(lines) < _LINES:
        raise BadCheckpoint("The checkpoint has fewer than three lines: origin, size, root.")
    if not all(lines):
        raise BadCheckpoint("The checkpoint has an empty line in its text.")
    origin, size, encoded_root, *extensions = lines
    if not _DECIMAL.fullmatch(size):
        raise BadCheckpoint("The checkpoint's tree size is not a plain decimal number.")
    root = decode_base64(encoded_root, "The checkpoint's root hash is not base64.")
    if len(root) != HASH_BYTES:
        raise BadCheckpoint("The checkpoint's root hash does not have 32 bytes.")
    checkpoint = Checkpoint(origin=origin, size=int(size), root=root, extensions=tuple(extensions))
    return SignedCheckpoint(checkpoint=checkpoint, note=parsed)


def checkpoint_signer(origin: str, key: SigningKey) -> Callable[[int, bytes], str]:
    """A function that signs (size, root) as a checkpoint note of this log.

    The key name is the origin, as the specification recommends; so the origin
    must be fit for a key name.

    Raises:
        BadCheckpoint: the origin is empty or has spaces or a plus in it.
    """
    VerifierKey(name=origin, public_key=key.verify_key.encode())

    def sign(size: int, root: bytes) -> str:
        return sign_note(Checkpoint(origin=origin, size=size, root=root).text(), origin, key)

    return sign
