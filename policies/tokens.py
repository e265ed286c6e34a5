"""Access tokens of people: JWTs signed with Ed25519 (EdDSA, RFC 8037).

A token names its key by `kid`, the key's RFC 7638 thumbprint, and its kind by
`typ`, "at+jwt" (RFC 9068), so that no other JWT of the same key passes for one.
The clock is the caller's.
"""

import hashlib
import json
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.errors import ExpiredToken, InvalidToken, KeyFileError
from policies.roles import Role

ALGORITHM = "EdDSA"
TYPE = "at+jwt"
DEFAULT_TTL_S = 3600
DEFAULT_LEEWAY_S = 30
"""How far the clocks of two machines may differ."""
MAX_TOKEN_BYTES = 4096
KEPT_CLAIMS = 4096
"""How many tokens that are good are known by heart; some 600 bytes each."""
_LATEST = 253_402_300_799
"""The last second of the year 9999, as far as datetime goes."""


class Claims(BaseModel):
    """What a valid token says; times are whole seconds since 1970.

    Attributes:
        iss: who issued it.
        aud: whom it is for.
        sub: the user's id.
        username: the user's name when it was issued.
        role: the user's role when it was issued.
        iat: issued at; nbf and exp: valid from and until.
        jti: the token's own id.
        sid: the session that it was issued for; the token is void when that ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    iss: str
    aud: str
    sub: str = Field(min_length=1)
    username: str
    role: Role = Field(strict=False)
    iat: int = Field(ge=0, le=_LATEST)
    nbf: int = Field(ge=0, le=_LATEST)
    exp: int = Field(ge=0, le=_LATEST)
    jti: str = Field(min_length=1)
    sid: str = Field(min_length=1)

    @property
    def expires_at(self) -> datetime:
        """When it ends, in UTC."""
        return datetime.fromtimestamp(self.exp, UTC)


def key_thumbprint(key: Ed25519PublicKey) -> str:
    """The `kid` of a public key: its JWK thumbprint (RFC 7638, RFC 8037 appendix A.3)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
    text = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(text.encode()).digest())


class TokenIssuer:
    """Issues access tokens.

    Args:
        private_key: signs them.
        issuer: `iss`, who we are.
        audience: `aud`, whom the tokens are for.
        new_id: makes a `jti` that was never used.
    """

    def __init__(
        self,
        private_key: Ed25519PrivateKey,
        *,
        issuer: str,
        audience: str,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._key = private_key
        self._issuer = issuer
        self._audience = audience
        self._new_id = new_id
        self.kid = key_thumbprint(private_key.public_key())

    @property
    def public_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The verifying half by its `kid`, for a TokenVerifier."""
        return {self.kid: self._key.public_key()}

    def issue(
        self,
        subject: str,
        username: str,
        role: Role,
        ttl_s: int = DEFAULT_TTL_S,
        *,
        session: str,
        now: datetime,
    ) -> str:
        """A signed token, valid from now for ttl_s seconds.

        Args:
            subject: the user's id.
            username: the user's name.
            role: the user's role.
            ttl_s: seconds.
            session: the id of the session.
            now: the time, with a zone.
        """
        issued = int(_aware(now).timestamp())
        claims = Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=subject,
            username=username,
            role=role,
            iat=issued,
            nbf=issued,
            exp=issued + ttl_s,
            jti=self._new_id(),
            sid=session,
        )
        return jwt.encode(
            claims.model_dump(mode="json"),
            self._key,
            algorithm=ALGORITHM,
            headers={"kid": self.kid, "typ": TYPE},
        )


class TokenVerifier:
    """Checks access tokens; nothing but the right key, kind, issuer and audience passes.

    Args:
        public_keys: by `kid`; more than one while keys are being replaced.
        issuer: whose tokens.
        audience: tokens for whom.
        leeway_s: how far two clocks may differ.
    """

    def __init__(
        self,
        public_keys: Mapping[str, Ed25519PublicKey],
        *,
        issuer: str,
        audience: str,
        leeway_s: int = DEFAULT_LEEWAY_S,
    ) -> None:
        self._keys = dict(public_keys)
        self._issuer = issuer
        self._audience = audience
        self._leeway_s = leeway_s
        # What a token says, and that it is signed, does not change while the keys are these.
        self._claims = lru_cache(KEPT_CLAIMS)(self._read)

    def verify(self, token: str, *, now: datetime) -> Claims:
        """The token's claims, once everything about it has been checked.

        Args:
            token: as received.
            now: the time, with a zone.

        Raises:
            ExpiredToken: it was valid before.
            InvalidToken: anything else that is wrong with it.
        """
        claims = self._claims(token)
        moment_s = _aware(now).timestamp()
        if moment_s >= claims.exp + self._leeway_s:
            raise ExpiredToken
        if max(claims.nbf, claims.iat) > moment_s + self._leeway_s:
            raise InvalidToken("The token is not valid yet.")
        return claims

    def _read(self, token: str) -> Claims:
        return _read_claims(self._checked_payload(token))

    def _checked_payload(self, token: str) -> object:
        """The payload, its signature, issuer and audience checked; its times are not."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
                raise InvalidToken("The token is not an access token signed with EdDSA.")
            key = self._keys.get(str(header.get("kid")))
            if key is None:
                raise InvalidToken("The token is signed with a key that is not known here.")
            payload: object = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={
                    "require": ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "sid"],
                    "strict_aud": True,
                    "verify_exp": False,  # with the caller's clock, in verify()
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            message = f"The token is not valid: {type(error).__name__}."
            raise InvalidToken(message) from error
        return payload


def _read_claims(payload: object) -> Claims:
    try:
        return Claims.model_validate(payload)
    except ValidationError as error:
        fields = ", ".join(str(part) for e in error.errors() for part in e["loc"])
        message = f"The token's claims are not as they should be: {fields}."
        raise InvalidToken(message) from error


def save_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes the key as PEM (PKCS 8, not encrypted), readable by its owner only.

    Raises:
        KeyFileError: there is a file already, or it cannot be written.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        message = f"The key file {path} could not be written: {error.strerror}."
        raise KeyFileError(message) from error


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a key that save_private_key wrote.

    Raises:
        KeyFileError: others may read it, or it holds no Ed25519 key.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                message = f"The key file {path} can be read by others than its owner."
                raise KeyFileError(message)
            key = load_pem_private_key(file.read(), password=None)
    except OSError as error:
        message = f"The key file {path} could not be read: {error.strerror}."
        raise KeyFileError(message) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"The key file {path} holds no private key in PEM."
        raise KeyFileError(message) from error
    if not isinstance(key, Ed25519PrivateKey):
        message = f"The key file {path} holds a key, but not one for Ed25519."
        raise KeyFileError(message)
    return key


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("the time needs a time zone")
    return moment


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
