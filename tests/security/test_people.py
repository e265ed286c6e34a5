"""Attacks on the way in: tokens, refresh tokens, headers, names, bodies."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from policies.tokens import ALGORITHM, TYPE, key_thumbprint
from serve.access import OPEN
from tests.unit.serve.fakes import NOW, PASSWORD, UMA, Fakes

Forge = Callable[["Forger"], str]


class Forger:
    """Someone who has a real token, everything that is public, and keys of their own."""

    def __init__(self, fakes: Fakes) -> None:
        self.key = fakes.ring.signing
        self.own = Ed25519PrivateKey.generate()
        self.public = self.key.public_key()
        self.token = fakes.token("uma")
        self.header = jwt.get_unverified_header(self.token)
        self.claims = jwt.decode(self.token, options={"verify_signature": False})

    def signed(self, *, key: Ed25519PrivateKey | None = None, **changed: object) -> str:
        """With the swarm's own key unless another is named: only the claims are wrong then."""
        claims = {name: v for name, v in {**self.claims, **changed}.items() if v is not None}
        return jwt.encode(claims, key or self.key, algorithm=ALGORITHM, headers=self.header)

    def headed(self, *, key: Ed25519PrivateKey | None = None, **changed: object) -> str:
        headers = {name: v for name, v in {**self.header, **changed}.items() if v is not None}
        return jwt.encode(self.claims, key or self.key, algorithm=ALGORITHM, headers=headers)

    def unsigned(self, algorithm: str) -> str:
        head = {**self.header, "alg": algorithm}
        return f"{b64(head)}.{b64(self.claims)}."

    def confused(self, secret: bytes) -> str:
        """HS256 with the public key as the secret, which a careless library takes."""
        signing_input = f"{b64({**self.header, 'alg': 'HS256'})}.{b64(self.claims)}"
        mac = hmac.digest(secret, signing_input.encode(), hashlib.sha256)
        return f"{signing_input}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def at(**delta: float) -> int:
    return int((NOW + timedelta(**delta)).timestamp())


ATTACKS: dict[str, Forge] = {
    "alg none": lambda f: f.unsigned("none"),
    "alg None": lambda f: f.unsigned("None"),
    "alg nOnE": lambda f: f.unsigned("nOnE"),
    "no alg": lambda f: f"{b64({'typ': TYPE, 'kid': f.header['kid']})}.{b64(f.claims)}.",
    "signature removed": lambda f: f.token.rsplit(".", 1)[0] + ".",
    "HS256 with the public key as PEM": lambda f: f.confused(
        f.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the public key": lambda f: f.confused(f.public.public_bytes_raw()),
    "HS256 with the key's name": lambda f: f.confused(f.header["kid"].encode()),
    "HS256 with nothing": lambda f: f.confused(b""),
    "another key under our kid": lambda f: f.signed(key=f.own),
    "another key under its own kid": lambda f: f.headed(
        key=f.own, kid=key_thumbprint(f.own.public_key())
    ),
    "another key brought along": lambda f: f.headed(
        key=f.own,
        kid=None,
        jwk={
            "kty": "OKP",
            "crv": "Ed25519",
            "x": base64.urlsafe_b64encode(f.own.public_key().public_bytes_raw()).decode(),
        },
    ),
    "another key by address": lambda f: f.headed(key=f.own, jku="https://evil.example/jwks.json"),
    "a certificate brought along": lambda f: f.headed(key=f.own, x5c=["AAAA"]),
    "kid is a path": lambda f: f.headed(key=f.own, kid="../../../../dev/null"),
    "kid is SQL": lambda f: f.headed(key=f.own, kid="' union select 'AA' --"),
    "kid is a command": lambda f: f.headed(key=f.own, kid="; cat /etc/passwd"),
    "no kid": lambda f: f.headed(kid=None),
    "another type": lambda f: f.headed(typ="JWT"),
    "no type": lambda f: f.headed(typ=None),
    "a critical header": lambda f: f.headed(crit=["exp"]),
    "wrong issuer": lambda f: f.signed(iss="another swarm"),
    "no issuer": lambda f: f.signed(iss=None),
    "wrong audience": lambda f: f.signed(aud="another service"),
    "audience among others": lambda f: f.signed(aud=["gateway", "x"]),
    "no audience": lambda f: f.signed(aud=None),
    "expired": lambda f: f.signed(exp=at(seconds=-31)),
    "no end": lambda f: f.signed(exp=None),
    "an end that is no number": lambda f: f.signed(exp="never"),
    "an end without end": lambda f: f.signed(exp=10**30),
    "not valid yet": lambda f: f.signed(nbf=at(minutes=5)),
    "issued tomorrow": lambda f: f.signed(iat=at(days=1)),
    "no session": lambda f: f.signed(sid=None),
    "a session that is none": lambda f: f.signed(sid="x"),
    "a session that nobody began": lambda f: f.signed(sid="00000000-0000-0000-0000-00000000beef"),
    "the session of somebody else": lambda f: f.signed(sub="00000000-0000-0000-0000-000000000001"),
    "a claim too many": lambda f: f.signed(scope="everything"),
    "a role that is none": lambda f: f.signed(role="root"),
    "the claims changed": lambda f: ".".join(
        [f.token.split(".")[0], b64({**f.claims, "role": "admin"}), f.token.split(".")[2]]
    ),
    "encrypted": lambda f: f"{f.token}.AA.AA",
    "huge": lambda f: f.signed(username="a" * 5_000),
    "deep": lambda f: ".".join([f.token.split(".")[0], "W1tb" * 900, "AA"]),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
async def test_a_forged_token_opens_nothing(attack: str) -> None:
    fakes = Fakes()
    forged = ATTACKS[attack](Forger(fakes))
    async with fakes.client(None) as client:
        for path in ("/auth/validate", "/v1/runs", "/v1/users"):
            answer = await client.get(path, headers={"Authorization": f"Bearer {forged}"})
            assert answer.status_code == 401, (path, answer.text)
            assert forged not in answer.text


async def test_the_forger_can_make_a_token_that_is_accepted_or_the_attacks_prove_nothing() -> None:
    fakes = Fakes()
    forger = Forger(fakes)
    async with fakes.client(None) as client:
        for token in (forger.token, forger.signed(), forger.headed()):
            answer = await client.get(
                "/auth/validate", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 200


async def test_a_role_in_a_token_is_not_believed_over_the_database() -> None:
    fakes = Fakes()
    token = Forger(fakes).signed(role="admin")
    async with fakes.client(None) as client:
        answer = await client.get("/v1/users", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403


async def test_a_refresh_token_that_is_replayed_by_many_at_once_is_good_for_one() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        body = {"username": "uma", "password": PASSWORD}
        token = (await client.post("/auth/login", json=body)).json()["refresh_token"]
        answers = await asyncio.gather(
            *(client.post("/auth/refresh", json={"refresh_token": token}) for _ in range(12))
        )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 11}
    assert list(fakes.sessions.ended.values()) == ["reuse"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer {token}"), ("Authorization", "Bearer {token}")],
        [("Authorization", "Bearer {token}, Bearer {token}")],
        [("Authorization", "Bearer {token} extra")],
        [("Authorization", "Bearer\t{token}x")],
        [("X-Forwarded-User", "ada")],
        [("X-Remote-User", "ada"), ("X-User-Id", UMA)],
        [("Cookie", "access_token={token}")],
        [("X-Original-URL", "/health/live")],
        [("X-HTTP-Method-Override", "POST")],
    ],
)
async def test_headers_that_other_servers_believe_let_nobody_in(
    headers: list[tuple[str, str]],
) -> None:
    fakes = Fakes()
    token = fakes.token()
    sent = [(name, value.format(token=token)) for name, value in headers]
    async with fakes.client(None) as client:
        assert (await client.get("/v1/runs", headers=sent)).status_code == 401


@pytest.mark.parametrize(
    "path", ["/auth/login/", "/auth//login", "/AUTH/LOGIN", "/auth/login/x", "/auth/login;x"]
)
async def test_a_path_that_looks_open_is_not(path: str) -> None:
    assert ("POST", path) not in OPEN
    async with Fakes().client(None) as client:
        body = {"username": "uma", "password": PASSWORD}
        assert (await client.post(path, json=body)).status_code == 401


NASTY_NAMES = [
    "' or '1'='1",
    "uma'; drop table users; --",
    'uma" or ""="',
    "uma\0",
    "uma\r\nX-Admin: yes",
    "../../uma",
    "uma%00",
    "${jndi:ldap://x}",
    "\u202eamu",
    "u\u200bma",
    "um\u0430",
    "uma\ufeff",
    "*",
    "%",
    "_ma",
    "a" * 128,
    "\U0001f600" * 60,
]


@pytest.mark.parametrize("name", NASTY_NAMES)
async def test_a_nasty_name_is_nobodys(name: str) -> None:
    async with Fakes().client(None) as client:
        answer = await client.post("/auth/login", json={"username": name, "password": PASSWORD})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "The user name or the password is wrong."


@pytest.mark.parametrize("name", ["\uff55\uff4d\uff41", "UMA", "\u1d58\u1d50\u1d43"])
async def test_one_name_written_in_another_way_is_counted_as_one(name: str) -> None:
    """Else every way to write a name would give a guesser five more tries."""
    fakes = Fakes()
    async with fakes.client(None) as client:
        for _ in range(3):
            await client.post("/auth/login", json={"username": name, "password": "guess"})
        body = {"username": "uma", "password": PASSWORD}
        assert (await client.post("/auth/login", json=body)).status_code == 429


BODIES = {
    "deep": b'{"username": ' + b"[" * 100_000 + b"]" * 100_000 + b', "password": "x"}',
    "deep object": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "oversize": b'{"username": "a", "password": "' + b"x" * 300_000 + b'"}',
    "huge number": b'{"username": ' + b"9" * 5_000 + b', "password": "x"}',
    "not UTF-8": b'{"username": "\xff\xfe", "password": "x"}',
    "half a surrogate": b'{"username": "\\ud800", "password": "x"}',
    "no JSON": b"username=uma&password=x",
    "a list": b"[]",
    "null": b"null",
    "a number for a name": b'{"username": 1, "password": true}',
    "twice": b'{"username": "uma", "username": "ada", "password": "x"}',
    "more than asked": b'{"username": "uma", "password": "x", "role": "admin"}',
    "infinite": b'{"username": Infinity, "password": "x"}',
    "long name": b'{"username": "' + b"a" * 129 + b'", "password": "x"}',
    "long password": b'{"username": "uma", "password": "' + b"a" * 1_025 + b'"}',
}


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh", "/auth/register"])
async def test_a_body_that_is_not_what_it_should_be_is_refused_with_a_reason(
    path: str, body: str
) -> None:
    async with Fakes().client(None) as client:
        answer = await client.post(
            path, content=BODIES[body], headers={"Content-Type": "application/json"}
        )
    assert answer.status_code in (400, 401, 403, 413, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text


async def test_what_a_client_calls_itself_is_shown_without_what_could_do_harm() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        headers = {b"User-Agent": b"Mozilla/5.0 \x1b[31m\x07<script>\xff" + b"x" * 500}
        answer = await client.post(
            "/auth/login", json={"username": "uma", "password": PASSWORD}, headers=headers
        )
        token = answer.json()["access_token"]
        listed = await client.get("/auth/sessions", headers={"Authorization": f"Bearer {token}"})
    (session,) = listed.json()["sessions"]
    assert "\x1b" not in session["client"]
    assert len(session["client"]) <= 200


@pytest.mark.parametrize("path", ["/v1/users/x", "/auth/sessions/x", "/auth/api-keys/x'--"])
async def test_an_id_that_is_none_reaches_no_table(path: str) -> None:
    async with Fakes().client("ada") as client:
        method = "PATCH" if "users" in path else "DELETE"
        answer: httpx.Response = await client.request(
            method, path, json={} if method == "PATCH" else None
        )
    assert answer.status_code == 422
