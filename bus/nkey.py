"""NKeys: Ed25519 key pairs in the textual form that NATS uses.

Source: the NKEYS description of the NATS project: a prefix byte for the kind of
key, 32 key bytes, a CRC-16 in little-endian order, in base32 without padding.
"""

import base64
import binascii
import hmac
import os
import re
from functools import lru_cache
from typing import Final, Self

import nkeys
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey, VerifyKey

from bus.errors import BadSignature, IdentityError, MalformedEvent

USER: Final = nkeys.PREFIX_BYTE_USER
ACCOUNT: Final = nkeys.PREFIX_BYTE_ACCOUNT
OPERATOR: Final = nkeys.PREFIX_BYTE_OPERATOR
_BASE64URL: Final = re.compile("[A-Za-z0-9_-]*")
_LAST: Final = {0: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
"""How text whose length is so many characters over a multiple of four may end (RFC 4648, 3.5)."""
_PUBLIC_BYTES: Final = 1 + 32 + 2


class AgentKey:
    """A key pair whose private half leaves the object only through `export_seed`."""

    __slots__ = ("_prefix", "_signing", "public")

    def __init__(self, private: bytes, prefix: int) -> None:
        self._prefix = prefix
        self._signing = SigningKey(private)
        self.public: str = _encode_public(self._signing.verify_key.encode(), prefix)

    @classmethod
    def generate(cls, prefix: int = USER) -> Self:
        """Make a new key from the system's random source."""
        return cls(os.urandom(32), prefix)

    @classmethod
    def from_seed(cls, seed: str) -> Self:
        """Read a key from its ``S...`` form.

        Raises:
            IdentityError: the text is not a seed. The text is not repeated in the error.
        """
        try:
            prefix, private = nkeys.decode_seed(seed.strip().encode())
            key = cls(bytes(private), prefix)
        except (nkeys.NkeysError, binascii.Error, ValueError) as error:
            raise IdentityError("the text is not an NKey seed") from error
        if key.export_seed() != seed.strip():
            raise IdentityError("the NKey seed has a wrong checksum")
        return key

    def sign(self, message: bytes) -> bytes:
        """Sign with Ed25519; 64 bytes."""
        return self._signing.sign(message).signature

    def derive(self, purpose: str, prefix: int) -> "AgentKey":
        """Another key, which follows from this one and the purpose alone."""
        return AgentKey(hmac.digest(self._signing.encode(), purpose.encode(), "sha256"), prefix)

    def open_box(self, box: bytes) -> bytes:
        """What `box_for` put into a box for this key.

        Raises:
            IdentityError: it is for another key, or was changed.
        """
        try:
            return SealedBox(self._signing.to_curve25519_private_key()).decrypt(box)
        except CryptoError as error:
            raise IdentityError(f"the box is not for {self.public}") from error

    def export_seed(self) -> str:
        """The private key as text, for a file of mode 0600 or a NATS credentials file."""
        seed: bytes = nkeys.encode_seed(self._signing.encode(), self._prefix)
        return seed.decode()

    def __repr__(self) -> str:
        return f"AgentKey(public={self.public!r})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise IdentityError("a private key does not leave its process")


def verify_signature(public: str, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        BadSignature: it does not match.
        IdentityError: the public key is not an NKey.
    """
    try:
        verify_key(public).verify(message, signature)
    except (BadSignatureError, ValueError) as error:
        raise BadSignature(f"the signature by {public} does not cover what was received") from error


def box_for(public: str, message: bytes) -> bytes:
    """The message so that only the holder of the key can read it (X25519, libsodium's sealed box).

    Raises:
        IdentityError: the public key is not an NKey.
    """
    return SealedBox(verify_key(public).to_curve25519_public_key()).encrypt(message)


@lru_cache(maxsize=4096)
def verify_key(public: str) -> VerifyKey:
    """Decode a public NKey; results are kept because a sender signs many events.

    Raises:
        IdentityError: wrong alphabet, length, kind or checksum.
    """
    try:
        raw = base64.b32decode(public + "=" * (-len(public) % 8))
    except (binascii.Error, ValueError) as error:
        raise IdentityError(f"{public[:60]!r} is not a public NKey") from error
    if len(raw) != _PUBLIC_BYTES or raw[0] not in (USER, ACCOUNT, OPERATOR):
        raise IdentityError(f"{public[:60]!r} is not a public NKey of a user, account or operator")
    if _encode_public(raw[1:33], raw[0]) != public:
        raise IdentityError(f"{public[:60]!r} has a wrong checksum")
    return VerifyKey(raw[1:33])


def encode_base64url(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def is_base64url(text: str) -> bool:
    """Whether it is unpadded base64url in the one canonical spelling: no spare bit is set."""
    last = _LAST.get(len(text) % 4)
    return (
        last is not None
        and _BASE64URL.fullmatch(text) is not None
        and (not last or text[-1] in last)
    )


def decode_base64url(text: str, *, length: int | None = None) -> bytes:
    """Decode unpadded base64url, accepting only the one canonical spelling.

    Raises:
        MalformedEvent: another alphabet, spare bits that are not zero, or another length.
    """
    if not is_base64url(text):
        raise MalformedEvent("a header is not canonical base64url")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if length is not None and len(raw) != length:
        raise MalformedEvent(f"a header is not base64url of {length} bytes")
    return raw


def _encode_public(raw: bytes, prefix: int) -> str:
    body = bytes([prefix]) + raw
    checksum: int = nkeys.crc16(bytearray(body))
    return base64.b32encode(body + checksum.to_bytes(2, "little")).rstrip(b"=").decode()
