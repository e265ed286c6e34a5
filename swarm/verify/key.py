"""Public keys, signatures, and the signed claims of NATS operator mode.

Sources: the NKEYS description of the NATS project (a prefix byte, 32 key bytes, CRC-16/XMODEM in
little-endian order, in base32 without padding); version 2 of the NATS JWT description.
"""

import base64
import binascii
import hashlib
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from swarm.verify.text import Json, NotProven, base64url_bytes, read_json

OPERATOR: Final = 14 << 3
ACCOUNT: Final = 0
USER: Final = 20 << 3
SIGNATURE_BYTES: Final = 64
_KEY_BYTES: Final = 35
_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}


@lru_cache(maxsize=4096)
def public_key(text: str, kind: int) -> VerifyKey:
    """The Ed25519 key that a public NKey of that kind spells.

    Raises:
        NotProven: it is not one, or of another kind, or mistyped.
    """
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise NotProven(f"{text[:60]!r} is not a public key") from error
    body, checksum = raw[:-2], raw[-2:]
    canonical = base64.b32encode(raw).rstrip(b"=").decode()
    if len(raw) != _KEY_BYTES or raw[0] != kind or canonical != text:
        raise NotProven(f"{text[:60]!r} is not a public key of the expected kind")
    if checksum != binascii.crc_hqx(body, 0).to_bytes(2, "little"):
        raise NotProven(f"{text[:60]!r} has a wrong checksum")
    return VerifyKey(body[1:])


def check_signature(key: str, kind: int, message: bytes, signature: bytes) -> None:
    """Accept an Ed25519 signature of the key.

    Raises:
        NotProven: it does not cover the message.
    """
    try:
        public_key(key, kind).verify(message, signature)
    except (BadSignatureError, ValueError) as error:
        raise NotProven(f"the signature of {key} does not cover it") from error


def signed_claims(token: str, kind: int, what: str) -> tuple[str, Mapping[str, Json]]:
    """Who signed a JWT, a key of that kind, and its claims; nobody is trusted by this.

    Args:
        token: three parts of base64url.
        kind: of the issuer's key.
        what: to speak of it by.

    Raises:
        NotProven: it is malformed, or not signed by the issuer that it names.
    """
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        raise NotProven(f"{what} is not a JWT")
    header, body, signature = (base64url_bytes(part, what) for part in parts)
    if read_json(header, what) != _HEADER:
        raise NotProven(f"{what} is not a JWT of NATS")
    claims = read_json(body, what)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise NotProven(f"{what} names no issuer")
    try:
        check_signature(issuer, kind, f"{parts[0]}.{parts[1]}".encode(), signature)
    except NotProven as error:
        raise NotProven(f"{what}: {error}") from error
    return issuer, claims


def claims_of(token: str, issuers: Container[str], kind: int, what: str) -> Mapping[str, Json]:
    """The claims of a JWT that one of these keys signed.

    Raises:
        NotProven: it is malformed, or signed by another key.
    """
    issuer, claims = signed_claims(token, kind, what)
    if issuer not in issuers:
        raise NotProven(f"{what} is signed by {issuer}, who cannot vouch for it here")
    return claims


def encode_fields(*fields: bytes) -> bytes:
    """Fields that cannot be taken for others: their number, and the length before each."""
    return b"".join((b"%d" % len(fields), *(b" %d %b" % (len(field), field) for field in fields)))


def sha256(data: bytes) -> bytes:
    """The digest of the bytes."""
    return hashlib.sha256(data).digest()
