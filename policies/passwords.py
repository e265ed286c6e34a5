"""Passwords: argon2id, off the event loop, at one cost for known and unknown users.

Parameters are the second recommendation of RFC 9106 (section 4): 3 passes over
64 MiB with 4 lanes. OWASP's Password Storage Cheat Sheet asks for no less than any of
m=46 MiB t=1, 19 MiB t=2, 12 MiB t=3, 9 MiB t=4, 7 MiB t=5, each with p=1: these are above
its line for 3 passes five times over.
"""

import asyncio
import secrets
import unicodedata
from base64 import b64encode

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from policies.errors import PasswordRejected
from policies.roles import Allow, Deny

MIN_CHARACTERS = 12
MAX_BYTES = 1024
"""Longer passwords are refused, so that hashing cannot be made expensive."""
CONCURRENCY = 2
"""Hashes worked out at once; each takes 64 MiB and a core for its time."""


class Passwords:
    """Hashes and checks passwords in a thread, a few at a time; others wait.

    Args:
        hasher: its parameters apply to new hashes; argon2id.
        concurrency: most hashes worked out at once.
    """

    def __init__(
        self, hasher: PasswordHasher | None = None, *, concurrency: int = CONCURRENCY
    ) -> None:
        self._hasher = hasher or PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._dummy = _unmatchable(self._hasher)
        self._slots = asyncio.Semaphore(concurrency)

    async def hash(self, password: str) -> str:
        """The encoded hash of a new password, its parameters and salt included.

        Raises:
            PasswordRejected: shorter than 12 characters or longer than 1,024 bytes.
        """
        if len(password) < MIN_CHARACTERS:
            message = f"A password has at least {MIN_CHARACTERS} characters."
            raise PasswordRejected(message)
        encoded = _encode(password)
        if encoded is None:
            message = f"A password has at most {MAX_BYTES} bytes of valid Unicode."
            raise PasswordRejected(message)
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, encoded)

    async def verify(self, password: str, stored: str | None) -> Allow | Deny:
        """Whether the password belongs to the stored hash.

        The reason of a denial is the same in every case.

        Args:
            password: as typed.
            stored: the user's hash; None if there is no such user, which takes
                as long as a wrong password against a hash of current parameters.
        """
        encoded = _encode(password)
        async with self._slots:
            matches = await asyncio.to_thread(
                self._matches, self._dummy if stored is None else stored, encoded or b""
            )
        if matches and encoded is not None and stored is not None:
            return Allow()
        return Deny("The user name or the password is wrong.")

    def needs_rehash(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than new ones are."""
        try:
            return self._hasher.check_needs_rehash(stored)
        except InvalidHashError:
            return True

    def _matches(self, stored: str, encoded: bytes) -> bool:
        try:
            return self._hasher.verify(stored, encoded)
        except (VerificationError, InvalidHashError):
            return False


def _encode(password: str) -> bytes | None:
    """The bytes to hash, so that one password typed on two keyboards is the same; None if unfit."""
    if len(password) > MAX_BYTES:
        return None
    try:
        encoded = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        return None
    return encoded if len(encoded) <= MAX_BYTES else None


def _unmatchable(hasher: PasswordHasher) -> str:
    """A hash of nothing: random bytes in the place of salt and hash, at the hasher's cost."""
    salt, digest = (
        b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (hasher.salt_len, hasher.hash_len)
    )
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"
