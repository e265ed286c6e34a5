"""The keys that sign access tokens, and how one takes another's place.

One key signs. When it is replaced, its public half is kept beside it until the last token
made with it has expired: nobody has to log in anew. Two files in one directory hold it all:
``tokens.pem``, the key that signs, and ``tokens.retired.json``, the public halves.
"""

import json
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policies.errors import KeyFileError
from policies.roles import Role
from policies.tokens import (
    ALGORITHM,
    DEFAULT_LEEWAY_S,
    Claims,
    TokenIssuer,
    TokenVerifier,
    key_thumbprint,
    load_private_key,
    save_private_key,
)

log = structlog.get_logger()

REREAD_S: Final = 1.0
"""Between two looks at the files: how soon a gateway notices a new key."""
NOTICE_S: Final = 10
"""How long a gateway may go on signing with a key that was replaced: a slow disk included."""

LONGEST_LIFE_S: Final = 30 * 86_400
"""No access token lives longer, whatever a gateway is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredKey:
    """The public half of a key that signs no more; `retired_at` in seconds since 1970."""

    public: Ed25519PublicKey
    retired_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The key that signs, and those that did."""

    signing: Ed25519PrivateKey = field(repr=False)
    retired: tuple[RetiredKey, ...] = ()

    def verifying(self, now: datetime, *, life_s: int) -> Mapping[str, Ed25519PublicKey]:
        """The public keys by `kid` whose tokens may still be valid, the one that signs first.

        Args:
            now: the time.
            life_s: of an access token.
        """
        keys = [self.signing.public_key()]
        keys += [key.public for key in self.needed(now, life_s=life_s)]
        return {key_thumbprint(key): key for key in reversed(keys)}

    def needed(self, now: datetime, *, life_s: int) -> tuple[RetiredKey, ...]:
        """The retired keys whose tokens may still be valid."""
        since = now.timestamp() - life_s - DEFAULT_LEEWAY_S - NOTICE_S
        return tuple(key for key in self.retired if key.retired_at > since)

    def rotated(self, successor: Ed25519PrivateKey, *, now: datetime, keep: bool) -> "KeyRing":
        """The ring with another key to sign; without `keep`, what older ones signed is void."""
        at = int(now.timestamp())
        gone = RetiredKey(public=self.signing.public_key(), retired_at=at)
        needed = [key for key in self.retired if key.retired_at > at - LONGEST_LIFE_S]
        return KeyRing(signing=successor, retired=(*needed, gone) if keep else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    """What was made of a ring, and holds until the ring or the keys needed of it change."""

    ring: KeyRing
    retired: tuple[RetiredKey, ...]
    issuer: TokenIssuer
    verifier: TokenVerifier


class TokenKeys:
    """Issues and checks access tokens with a ring that may change under it.

    Args:
        read: the ring, as it is now.
        issuer: `iss`, who we are.
        audience: `aud`, whom the tokens are for.
        life_s: of an access token, in seconds.
    """

    def __init__(
        self, read: Callable[[], KeyRing], *, issuer: str, audience: str, life_s: int
    ) -> None:
        self._read = read
        self._issuer = issuer
        self._audience = audience
        self.life_s = life_s
        self._made: _InForce | None = None

    def issue(self, user: str, username: str, role: Role, *, session: str, now: datetime) -> str:
        """A token for a session, valid from now for `life_s`."""
        issuer = self._in_force(now).issuer
        return issuer.issue(user, username, role, self.life_s, session=session, now=now)

    def verify(self, token: str, *, now: datetime) -> Claims:
        """The token's claims.

        Raises:
            ExpiredToken: it was valid before.
            InvalidToken: anything else that is wrong with it.
        """
        return self._in_force(now).verifier.verify(token, now=now)

    def public_keys(self, *, now: datetime) -> tuple[dict[str, str], ...]:
        """Every key that may verify a token now, as a JWK (RFC 7517, RFC 8037)."""
        keys = self._read().verifying(now, life_s=self.life_s)
        return tuple(
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": _base64url(key.public_bytes_raw()),
                "kid": kid,
                "alg": ALGORITHM,
                "use": "sig",
            }
            for kid, key in keys.items()
        )

    def _in_force(self, now: datetime) -> _InForce:
        ring = self._read()
        retired = ring.needed(now, life_s=self.life_s)
        made = self._made
        if made is None or made.ring is not ring or made.retired != retired:
            made = self._made = _InForce(
                ring=ring,
                retired=retired,
                issuer=TokenIssuer(ring.signing, issuer=self._issuer, audience=self._audience),
                verifier=TokenVerifier(
                    ring.verifying(now, life_s=self.life_s),
                    issuer=self._issuer,
                    audience=self._audience,
                ),
            )
        return made


class KeyFolder:
    """A ring in files; reading it again costs two calls of stat a second at most.

    Args:
        path: of the key that signs.
        monotonic: seconds that only grow.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._ring = read_ring(path)
        self._seen = _state(path)
        self._looked_at = monotonic()

    def read(self) -> KeyRing:
        """The ring as it was a second ago at most; the last good one where it became unreadable."""
        if self._monotonic() - self._looked_at < REREAD_S:
            return self._ring
        self._looked_at = self._monotonic()
        state = _state(self._path)
        if state != self._seen:
            try:
                self._ring, self._seen = read_ring(self._path), state
            except KeyFileError as error:
                log.error("token_keys.unreadable", reason=str(error))
            else:
                log.info("token_keys.changed", kid=key_thumbprint(self._ring.signing.public_key()))
        return self._ring


def rotate(path: Path, *, now: datetime, keep: bool = True) -> KeyRing:
    """Put a new key in the place of the one at `path`; gateways notice within seconds.

    The retired half is written first: whatever moment this dies at, every token that was
    made verifies.

    Args:
        path: of the key that signs.
        now: the time.
        keep: accept what the old key signed until it expires.

    Raises:
        KeyFileError: a file cannot be read or written; the old key is still in force.
    """
    ring = read_ring(path).rotated(Ed25519PrivateKey.generate(), now=now, keep=keep)
    earlier = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        earlier.unlink(missing_ok=True)
        _write_retired(_retired_file(path), ring.retired)
        save_private_key(earlier, ring.signing)
        earlier.replace(path)
    except OSError as error:
        message = f"The key file {path} could not be replaced: {error.strerror}."
        raise KeyFileError(message) from error
    return ring


def read_ring(path: Path) -> KeyRing:
    """The ring whose signing key is at `path`.

    Raises:
        KeyFileError: a file cannot be read, or holds something else.
    """
    ring = KeyRing(signing=load_private_key(path))
    beside = _retired_file(path)
    try:
        entries = json.loads(beside.read_bytes())
        retired = tuple(
            RetiredKey(
                public=Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(each["x"] + "=")),
                retired_at=int(each["retired_at"]),
            )
            for each in entries
        )
    except FileNotFoundError:
        return ring
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise KeyFileError(f"The retired keys in {beside} cannot be read.") from error
    return replace(ring, retired=retired)


def _write_retired(path: Path, retired: tuple[RetiredKey, ...]) -> None:
    entries = [
        {"x": _base64url(key.public.public_bytes_raw()), "retired_at": key.retired_at}
        for key in retired
    ]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(entries, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _retired_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}.retired.json")


def _state(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when either file is replaced."""
    return tuple(_stat(each) for each in (path, _retired_file(path)))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
