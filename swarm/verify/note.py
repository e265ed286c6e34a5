"""Checkpoints: a log's name, size and root in a signed note.

Sources: C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from swarm.verify.key import OPERATOR, signed_claims
from swarm.verify.text import DIGEST_BYTES, Json, NotProven, base64_bytes, string

_DASH: Final = "\u2014 "
_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_SIGNED_BYTES: Final = _ID_BYTES + 64
_MOST_LINES: Final = 64
_DECIMAL = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """The key that signs checkpoints.

    Attributes:
        name: the log's.
        id: four bytes that stand before its signatures.
        public: 32 bytes, Ed25519.
        voucher: the operator that vouches for it; whether that is a root is not decided here.
    """

    name: str
    id: bytes
    public: bytes
    voucher: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the log said of itself: so many leaves under that root."""

    size: int
    root: bytes


def log_key(token: str) -> LogKey:
    """The log's key that an operator vouches for.

    Args:
        token: a JWT whose subject is a C2SP verifier key: ``name+id in hex+base64``.

    Raises:
        NotProven: the operator it names did not sign it, or it does not say so.
    """
    what = "the log key's JWT"
    voucher, claims = signed_claims(token, OPERATOR, what)
    nats = claims.get("nats")
    tags: Json = nats.get("tags") if isinstance(nats, dict) else None
    if not isinstance(tags, list) or "log" not in tags:
        raise NotProven(f"{what} is not one of a log's key")
    parts = string(claims.get("sub"), what).split("+", 2)
    if len(parts) != 3 or parts[0] != claims.get("name"):  # noqa: PLR2004 - name, id, key
        raise NotProven(f"{what} does not name a verifier key")
    name, hex_id, typed = parts[0], parts[1], base64_bytes(parts[2], what)
    key_id = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:_ID_BYTES]
    if typed[:1] != _ED25519 or len(typed) != 1 + DIGEST_BYTES or hex_id != key_id.hex():
        raise NotProven(f"{what} does not name an Ed25519 verifier key")
    return LogKey(name=name, id=key_id, public=typed[1:], voucher=voucher)


def parse_checkpoint(note: str, what: str) -> Checkpoint:
    """What a note says; proves nothing.

    Raises:
        NotProven: it is not a checkpoint of three lines.
    """
    _, size, root = _lines(note, what)
    return Checkpoint(size=size, root=root)


def read_checkpoint(note: str, key: LogKey, what: str, *, alone: bool) -> Checkpoint:
    """The checkpoint in a note that the log signed.

    Args:
        note: text, an empty line, signature lines.
        key: the log's.
        what: to speak of it by.
        alone: refuse signatures of others, which cannot be checked here.

    Raises:
        NotProven: it is malformed, of another log, or not signed by its key.
    """
    origin, size, root = _lines(note, what)
    if origin != key.name:
        raise NotProven(f"{what} is of the log {origin[:80]!r}, not of {key.name!r}")
    text, _, block = note.rpartition("\n\n")
    _check_signatures(f"{text}\n", block[:-1].split("\n"), key, what, alone=alone)
    return Checkpoint(size=size, root=root)


def _lines(note: str, what: str) -> tuple[str, int, bytes]:
    text, separator, block = note.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or not block.endswith("\n") or len(lines) != 3:  # noqa: PLR2004 - the format
        raise NotProven(f"{what} is not a note of three lines: origin, size, root")
    if not _DECIMAL.fullmatch(lines[1]):
        raise NotProven(f"{what} has no size")
    root = base64_bytes(lines[2], f"the root of {what}")
    if len(root) != DIGEST_BYTES:
        raise NotProven(f"the root of {what} does not have 32 bytes")
    return lines[0], int(lines[1]), root


def _check_signatures(text: str, lines: list[str], key: LogKey, what: str, *, alone: bool) -> None:
    if len(lines) > (1 if alone else _MOST_LINES):
        raise NotProven(f"{what} has more signatures than can be checked")
    signed = False
    for line in lines:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise NotProven(f"{what} has a malformed signature line")
        raw = base64_bytes(encoded, f"a signature of {what}")
        if (name, raw[:_ID_BYTES]) != (key.name, key.id) or len(raw) != _SIGNED_BYTES:
            if alone:
                raise NotProven(f"{what} is not signed by the log's key")
            continue
        try:
            VerifyKey(key.public).verify(text.encode(), raw[_ID_BYTES:])
        except (BadSignatureError, ValueError) as error:
            raise NotProven(f"the log's signature does not cover {what}") from error
        signed = True
    if not signed:
        raise NotProven(f"{what} is not signed by the log's key")


def as_base64(raw: bytes) -> str:
    """As a root stands in a checkpoint."""
    return base64.b64encode(raw).decode()
