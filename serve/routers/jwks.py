"""The public keys that access tokens verify with, for whoever checks them without us."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from serve.access import JWKS, Parts

open_router = APIRouter(tags=["auth"])

MAX_AGE_S = 60
"""How long a reader may keep the set; a new key is in it before a token that needs it is a
minute old only if the reader asks again for a `kid` that it does not know."""


class Jwk(BaseModel):
    """An Ed25519 public key (RFC 8037)."""

    model_config = ConfigDict(frozen=True)
    kty: str
    crv: str
    x: str = Field(description="The key, base64url.")
    kid: str = Field(description="Its RFC 7638 thumbprint.")
    alg: str
    use: str


class JwkSet(BaseModel):
    """Every key that a valid token may be signed with (RFC 7517)."""

    model_config = ConfigDict(frozen=True)
    keys: tuple[Jwk, ...]


@open_router.get(JWKS)
async def jwks(parts: Parts, response: Response) -> JwkSet:
    """The keys that access tokens verify with: the one that signs, and those it took the place of.

    Ask again for a `kid` that is not among those you have.
    """
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
    keys = parts.people.tokens.public_keys(now=parts.clock())
    return JwkSet(keys=tuple(Jwk(**key) for key in keys))
