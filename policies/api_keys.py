"""API keys as text: ``swk_<prefix>_<secret>``.

The prefix is 12 characters that a key is found by and may be shown by; the secret is 256
random bits. A digest of so much chance need not be slow: SHA-256 is what is stored.
"""

import hashlib
import re
import secrets
from base64 import b32encode
from dataclasses import dataclass, field
from typing import Final

MARK: Final = "swk_"
"""How every key begins, so that scanners for leaked secrets know one."""
PREFIX_CHARS: Final = 12
_SECRET_BYTES: Final = 32
_FORM = re.compile(r"swk_([a-z2-7]{12})_[A-Za-z0-9_-]{43}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that was just made: the only time that its text is there."""

    text: str = field(repr=False)
    prefix: str
    digest: bytes = field(repr=False)


def make_key() -> NewKey:
    """A key that nobody has."""
    prefix = b32encode(secrets.token_bytes(8)).decode().lower()[:PREFIX_CHARS]
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    text = f"{MARK}{prefix}_{secret}"
    return NewKey(text=text, prefix=prefix, digest=key_digest(text))


def prefix_of(text: str) -> str | None:
    """The prefix of what has the form of a key, None for other text."""
    match = _FORM.match(text)
    return None if match is None else match[1]


def key_digest(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode()).digest()
