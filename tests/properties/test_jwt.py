"""Keys and credentials: only what the authority signed, to the letter, is believed."""

import base64
import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bus import jwt
from bus.accounts import Account
from bus.errors import BadSignature, IdentityError, MalformedEvent, UnknownKey
from bus.identity import Authority, Credential, Permissions, credentials_file
from bus.nkey import (
    ACCOUNT,
    AgentKey,
    decode_base64url,
    encode_base64url,
    verify_key,
    verify_signature,
)
from bus.trust import TrustStore, verify
from tests.sending import AUTHORITY, POLICY, admitted, credential_of, new_sender, submitted

KEY = AgentKey.generate()
CREDENTIAL = credential_of("coder", "coder-1", KEY)
BASE64URL = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def trust() -> TrustStore:
    return TrustStore(AUTHORITY.operator_public_key, AUTHORITY.account_jwt)


def forged(header: object, claims: object, signature: bytes = bytes(64)) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(map(encode_base64url, (*parts, signature)))


def claims_of(token: str) -> jwt.Claims:
    claims: jwt.Claims = json.loads(decode_base64url(token.split(".")[1]))
    return claims


def test_the_authority_s_credential_is_admitted() -> None:
    known = trust().admit(CREDENTIAL.jwt, 7)
    assert (known.credential.role, known.credential.name) == ("coder", "coder-1")
    assert known.stream_sequence == 7


@given(st.integers(0, len(CREDENTIAL.jwt) - 1), BASE64URL | st.characters())
def test_a_changed_character_of_a_credential_is_refused(place: int, other: str) -> None:
    assume(CREDENTIAL.jwt[place] != other)
    with pytest.raises(IdentityError):
        trust().admit(CREDENTIAL.jwt[:place] + other + CREDENTIAL.jwt[place + 1 :], 1)


@given(st.integers(0, len(CREDENTIAL.jwt) - 1), st.integers(1, 8), st.text(max_size=4))
def test_a_credential_with_characters_cut_or_added_is_refused(
    place: int, cut: int, more: str
) -> None:
    token = CREDENTIAL.jwt[:place] + more + CREDENTIAL.jwt[place + cut :]
    assume(token != CREDENTIAL.jwt)
    with pytest.raises(IdentityError):
        trust().admit(token, 1)


@given(st.text())
def test_no_text_is_a_credential(text: str) -> None:
    with pytest.raises(IdentityError):
        Credential.parse(text)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "EdDSA", "", None])
def test_another_algorithm_is_refused(algorithm: str | None) -> None:
    """The signature would be right: only the header says otherwise."""
    head = encode_base64url(json.dumps({"typ": "JWT", "alg": algorithm}).encode())
    unsigned = f"{head}.{CREDENTIAL.jwt.split('.')[1]}"
    signer = AgentKey.generate(ACCOUNT)
    for token in (f"{unsigned}.", f"{unsigned}.{encode_base64url(signer.sign(unsigned.encode()))}"):
        with pytest.raises(IdentityError):
            Credential.parse(token)


def test_an_unsigned_credential_is_refused() -> None:
    with pytest.raises(IdentityError):
        Credential.parse(forged({"typ": "JWT", "alg": "ed25519-nkey"}, claims_of(CREDENTIAL.jwt)))


def test_another_issuer_is_refused() -> None:
    stranger = Authority.create()
    credential = stranger.issue(
        KEY.public,
        role="coordinator",
        name="coordinator-1",
        permissions=Permissions(publish=[">"], subscribe=[">"]),
        ttl=timedelta(hours=1),
    )
    with pytest.raises(IdentityError, match="not by the account"):
        trust().admit(credential.jwt, 1)


def test_a_self_signed_credential_is_refused() -> None:
    claims = claims_of(CREDENTIAL.jwt)
    token = jwt.encode({k: v for k, v in claims.items() if k not in ("iss", "jti")}, KEY)
    with pytest.raises(IdentityError, match="not by the account"):
        trust().admit(token, 1)


def test_an_account_of_another_operator_is_refused() -> None:
    with pytest.raises(IdentityError, match="operator"):
        TrustStore(AUTHORITY.operator_public_key, Authority.create().account_jwt)
    assert Account.parse(AUTHORITY.account_jwt).public_key == AUTHORITY.account_public_key


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 10**30},  # a moment that no clock can show
        {"exp": -(10**30)},
        {"iat": "yesterday"},
        {"exp": None},
        {"exp": 1.5},
        {"nats": None},
        {"nats": {"tags": "role:coder"}},
        {"nats": {"tags": ["coder"]}},
        {"sub": "UNOTAKEY"},
        {"sub": None},
    ],
)
def test_a_credential_with_strange_claims_is_refused(changes: jwt.Claims) -> None:
    """Anybody can sign these with a key of its own: they are read before the issuer is known."""
    claims: jwt.Claims = {
        "name": "x",
        "sub": KEY.public,
        "iat": 1,
        "exp": 2,
        "nats": {"tags": ["role:coder"]},
    }
    token = jwt.encode({**claims, **changes}, KEY)
    with pytest.raises(IdentityError):
        trust().admit(token, 1)


def test_a_deeply_nested_token_is_refused() -> None:
    body = encode_base64url(b"[" * 100_000)
    with pytest.raises(IdentityError):
        Credential.parse(f"{encode_base64url(b'{}')}.{body}.{encode_base64url(bytes(64))}")


def test_an_earlier_announcement_counts_and_a_later_one_changes_nothing() -> None:
    store = trust()
    assert store.admit(CREDENTIAL.jwt, 9).stream_sequence == 9
    assert store.admit(CREDENTIAL.jwt, 20).stream_sequence == 9
    assert store.admit(CREDENTIAL.jwt, 3).stream_sequence == 3


def test_a_credential_of_another_key_does_not_vouch_for_an_event() -> None:
    one, other = new_sender(), new_sender()
    event = one.sign(submitted("r1"))
    with pytest.raises(UnknownKey):
        verify(event, admitted(other), POLICY, stream_sequence=2, stored_at=datetime.now(UTC))


@pytest.mark.parametrize(
    ("seconds", "valid"), [(-6, False), (-4, True), (0, True), (3604, True), (3606, False)]
)
def test_a_credential_is_valid_for_its_life_and_five_seconds(seconds: int, valid: bool) -> None:  # noqa: FBT001
    moment = CREDENTIAL.issued_at + timedelta(seconds=seconds)
    assert CREDENTIAL.valid_at(moment) is valid


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_private_key_cannot_be_pickled(protocol: int) -> None:
    for holder in (KEY, {"key": KEY}, new_sender()):
        with pytest.raises(IdentityError, match="does not leave"):
            pickle.dumps(holder, protocol)


def test_a_private_key_cannot_be_copied() -> None:
    for copier in (copy.copy, copy.deepcopy):
        with pytest.raises(IdentityError):
            copier(KEY)


@given(st.binary(min_size=32, max_size=32))
def test_no_text_form_of_a_key_shows_the_private_half(private: bytes) -> None:
    key = AgentKey(private, ACCOUNT)
    shown = f"{key} {key!r} {key:}"
    seed = key.export_seed()
    for secret in (
        seed,
        seed[4:],
        private.hex(),
        repr(private),
        base64.b64encode(private).decode(),
    ):
        assert secret not in shown


def test_an_error_about_a_seed_does_not_repeat_it() -> None:
    seed = KEY.export_seed()
    with pytest.raises(IdentityError) as caught:
        AgentKey.from_seed(seed[:-1] + ("A" if seed[-1] != "A" else "B"))
    assert seed[:20] not in str(caught.value)


def test_a_seed_is_read_back() -> None:
    again = AgentKey.from_seed(KEY.export_seed() + "\n")
    assert again.public == KEY.public
    verify_signature(KEY.public, b"x", again.sign(b"x"))


@given(st.integers(0, 57), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567018=-"))
def test_a_misspelt_seed_is_refused(place: int, other: str) -> None:
    seed = KEY.export_seed()
    assume(seed[place] != other)
    with pytest.raises(IdentityError):
        AgentKey.from_seed(seed[:place] + other + seed[place + 1 :])


@given(st.text(max_size=100))
def test_no_text_is_a_seed(text: str) -> None:
    with pytest.raises(IdentityError):
        AgentKey.from_seed(text)


@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567018=-a "))
def test_a_misspelt_public_key_is_refused(place: int, other: str) -> None:
    assume(KEY.public[place] != other)
    with pytest.raises(IdentityError):
        verify_key(KEY.public[:place] + other + KEY.public[place + 1 :])


@given(st.binary(max_size=100), st.integers(0, 511))
def test_a_flipped_bit_of_a_signature_is_refused(message: bytes, bit: int) -> None:
    signature = bytearray(KEY.sign(message))
    signature[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadSignature):
        verify_signature(KEY.public, message, bytes(signature))


def test_a_signature_of_another_form_is_refused() -> None:
    """Adding the group order to S gives a second signature that a lax verifier accepts."""
    order = 2**252 + 27742317777372353535851937790883648493
    signature = KEY.sign(b"x")
    larger = int.from_bytes(signature[32:], "little") + order
    malleable = signature[:32] + larger.to_bytes(32, "little")
    with pytest.raises(BadSignature):
        verify_signature(KEY.public, b"x", malleable)


@given(st.binary(max_size=80))
def test_base64url_has_one_spelling(raw: bytes) -> None:
    text = encode_base64url(raw)
    assert decode_base64url(text) == raw
    for other in (text + "=", text + "\n", " " + text):
        with pytest.raises(MalformedEvent):
            decode_base64url(other)


def test_a_credentials_file_holds_the_token_and_the_seed() -> None:
    text = credentials_file(CREDENTIAL, KEY)
    assert CREDENTIAL.jwt in text.splitlines()
    assert KEY.export_seed() in text.splitlines()


def test_empty_permissions_deny_everything() -> None:
    claims = Permissions(publish=(), subscribe=()).as_claims()
    assert claims == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
