"""The JWTs of NATS operator mode: operator, account and user claims.

They are not JOSE tokens: the header's algorithm is ``ed25519-nkey`` and the ids are
digests of the claims, which is why PyJWT does not read them. Format: version 2 of
the NATS JWT description (github.com/nats-io/jwt).
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import JsonValue

from bus.errors import BadSignature, IdentityError, MalformedEvent
from bus.nkey import AgentKey, decode_base64url, encode_base64url, verify_signature

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_UNLIMITED: Final = -1

Claims = dict[str, JsonValue]


def encode(claims: Mapping[str, JsonValue], signer: AgentKey) -> str:
    """Sign claims; issuer and id are filled in."""
    body: Claims = {**claims, "iss": signer.public}
    digest = hashlib.new("sha512_256", _json(body)).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    unsigned = f"{encode_base64url(_json(_HEADER))}.{encode_base64url(_json(body))}"
    return f"{unsigned}.{encode_base64url(signer.sign(unsigned.encode()))}"


def decode(token: str) -> Claims:
    """Check that the token is signed by the issuer it names, and return its claims.

    Whether that issuer is to be trusted is the caller's question.

    Raises:
        IdentityError: the token is malformed or its signature does not match.
    """
    try:
        head, body, signature = token.split(".")
        header = json.loads(decode_base64url(head))
        claims = json.loads(decode_base64url(body))
        raw_signature = decode_base64url(signature, length=64)
    except (ValueError, RecursionError, MalformedEvent) as error:
        raise IdentityError("the credential is not a JWT") from error
    if header != _HEADER or not isinstance(claims, dict) or not isinstance(claims.get("iss"), str):
        raise IdentityError("the credential is not a NATS JWT")
    try:
        verify_signature(claims["iss"], f"{head}.{body}".encode(), raw_signature)
    except BadSignature as error:
        raise IdentityError("the credential's signature does not match its issuer") from error
    return claims


def operator_claims(operator: str, system_account: str, issued_at: int) -> Claims:
    """Claims of the operator, signed by itself."""
    nats: JsonValue = {"type": "operator", "version": 2, "system_account": system_account}
    return {"name": "swarm", "sub": operator, "iat": issued_at, "nats": nats}


def account_claims(
    account: str,
    name: str,
    issued_at: int,
    *,
    jetstream: bool,
    exports: Sequence[Claims] = (),
    imports: Sequence[Claims] = (),
) -> Claims:
    """Claims of an account; JetStream is bounded by the server's own limits.

    Args:
        account: its public key.
        name: for people.
        issued_at: seconds since 1970.
        jetstream: whether the account has a store.
        exports: what other accounts may import, from `service_export`, `stream_export`.
        imports: what the account sees of others, from `service_import`, `stream_import`.
    """
    storage = _UNLIMITED if jetstream else 0
    limits: JsonValue = {
        **dict.fromkeys(("subs", "data", "payload", "imports", "exports"), _UNLIMITED),
        **dict.fromkeys(("conn", "leaf"), _UNLIMITED),
        **dict.fromkeys(("streams", "consumer", "mem_storage", "disk_storage"), storage),
        "wildcards": True,
    }
    nats: Claims = {"type": "account", "version": 2, "limits": limits}
    if exports:
        nats["exports"] = [*exports]
    if imports:
        nats["imports"] = [*imports]
    return {"name": name, "sub": account, "iat": issued_at, "nats": nats}


def service_export(subject: str, *, answers: Literal["Singleton", "Stream"]) -> Claims:
    """Lets other accounts send requests to the subject, each for one answer or for many."""
    return {"name": subject, "subject": subject, "type": "service", "response_type": answers}


def stream_export(subject: str) -> Claims:
    """Lets other accounts hear what is published on the subject."""
    return {"name": subject, "subject": subject, "type": "stream"}


def service_import(account: str, subject: str) -> Claims:
    """Sends requests on the subject to the account that exports it."""
    return {"name": subject, "account": account, "subject": subject, "type": "service"}


def stream_import(account: str, subject: str) -> Claims:
    """Hears what the exporting account publishes on the subject, under the same name."""
    return {"name": subject, "account": account, "subject": subject, "type": "stream"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
