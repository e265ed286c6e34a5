"""Refresh tokens as text: ``swr_`` and 256 random bits, of which the SHA-256 is stored."""

import hashlib
import re
import secrets
from typing import Final

LIFE_S: Final = 30 * 86_400
"""From its making; each refresh makes the next one, so a session in use goes on."""
_BYTES: Final = 32
_FORM = re.compile(r"swr_[A-Za-z0-9_-]{43}\Z")


def make_refresh_token() -> str:
    """A token that nobody has."""
    return f"swr_{secrets.token_urlsafe(_BYTES)}"


def refresh_digest(text: str) -> bytes | None:
    """What is stored of a token; None for what cannot be one."""
    return hashlib.sha256(text.encode()).digest() if _FORM.match(text) else None
