"""Access tokens of people."""

import base64
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from policies.errors import ExpiredToken, InvalidToken, KeyFileError
from policies.roles import Role
from policies.tokens import (
    MAX_TOKEN_BYTES,
    TokenIssuer,
    TokenVerifier,
    key_thumbprint,
    load_private_key,
    save_private_key,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ISSUER = TokenIssuer(KEY, issuer="swarm", audience="gateway", new_id=lambda: "id-1")
VERIFIER = TokenVerifier(ISSUER.public_keys, issuer="swarm", audience="gateway", leeway_s=30)
TOKEN = ISSUER.issue("u-1", "ada", Role.USER, session="s-1", now=NOW)
CLAIMS: dict[str, object] = jwt.decode(TOKEN, options={"verify_signature": False})
HEADER: dict[str, object] = jwt.get_unverified_header(TOKEN)


def signed(claims: dict[str, object], **header: object) -> str:
    headers = {"kid": ISSUER.kid, "typ": "at+jwt", **header}
    return jwt.encode(claims, KEY, algorithm="EdDSA", headers=headers)


def b64(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_a_token_says_who_and_for_how_long() -> None:
    claims = VERIFIER.verify(TOKEN, now=NOW)
    assert (claims.sub, claims.username, claims.role) == ("u-1", "ada", Role.USER)
    assert (claims.iss, claims.aud, claims.jti) == ("swarm", "gateway", "id-1")
    assert claims.expires_at == NOW + timedelta(hours=1)
    header = jwt.get_unverified_header(TOKEN)
    assert header == {"alg": "EdDSA", "kid": ISSUER.kid, "typ": "at+jwt"}


def test_each_token_has_an_id_of_its_own() -> None:
    issuer = TokenIssuer(KEY, issuer="swarm", audience="gateway")
    tokens = [issuer.issue("u-1", "ada", Role.USER, session="s-1", now=NOW) for _ in range(2)]
    assert len({VERIFIER.verify(token, now=NOW).jti for token in tokens}) == 2


def test_a_token_that_is_good_is_read_once_and_its_times_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verifier = TokenVerifier(ISSUER.public_keys, issuer="swarm", audience="gateway")
    first = verifier.verify(TOKEN, now=NOW)
    monkeypatch.delattr(jwt, "decode")
    assert verifier.verify(TOKEN, now=NOW) == first
    with pytest.raises(ExpiredToken):
        verifier.verify(TOKEN, now=NOW + timedelta(days=1))
    with pytest.raises(InvalidToken, match="not valid yet"):
        verifier.verify(TOKEN, now=NOW - timedelta(days=1))


def test_a_token_like_one_that_is_good_is_another() -> None:
    VERIFIER.verify(TOKEN, now=NOW)
    changed = TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "Q")
    for _ in range(2):
        with pytest.raises(InvalidToken):
            VERIFIER.verify(changed, now=NOW)


@pytest.mark.parametrize("after_s", [-30, 0, 3599, 3600, 3629])
def test_a_token_is_valid_for_its_time_and_the_leeway(after_s: int) -> None:
    assert VERIFIER.verify(TOKEN, now=NOW + timedelta(seconds=after_s)).sub == "u-1"


@pytest.mark.parametrize("after_s", [3630, 10**8])
def test_a_token_expires(after_s: int) -> None:
    with pytest.raises(ExpiredToken):
        VERIFIER.verify(TOKEN, now=NOW + timedelta(seconds=after_s))


def test_a_token_from_the_future_is_refused() -> None:
    with pytest.raises(InvalidToken, match="not valid yet"):
        VERIFIER.verify(TOKEN, now=NOW - timedelta(seconds=31))


def test_issued_at_counts_although_not_before_has_passed() -> None:
    early = signed({**CLAIMS, "nbf": 0})
    with pytest.raises(InvalidToken, match="not valid yet"):
        VERIFIER.verify(early, now=NOW - timedelta(seconds=31))


def test_the_time_needs_a_zone() -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match="zone"):
        ISSUER.issue("u-1", "ada", Role.USER, session="s-1", now=naive)
    with pytest.raises(ValueError, match="zone"):
        VERIFIER.verify(TOKEN, now=naive)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "sid", "role"])
def test_a_token_without_one_of_the_claims_is_refused(claim: str) -> None:
    token = signed({name: value for name, value in CLAIMS.items() if name != claim})
    with pytest.raises(InvalidToken):
        VERIFIER.verify(token, now=NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"aud": ["gateway", "other"]},
        {"aud": ["gateway"]},
        {"sub": ""},
        {"sub": 7},
        {"role": "root"},
        {"exp": "4102444800"},
        {"exp": 4102444800.5},
        {"exp": 10**20},
        {"exp": None},
        {"iat": True},
        {"nbf": -1},
        {"jti": ""},
        {"jti": None},
        {"scope": "everything"},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(changed: dict[str, object]) -> None:
    token = signed({**CLAIMS, **changed})
    with pytest.raises(InvalidToken) as caught:
        VERIFIER.verify(token, now=NOW)
    assert not isinstance(caught.value, ExpiredToken)


def test_a_token_at_the_end_of_the_calendar_is_no_trap() -> None:
    token = signed({**CLAIMS, "exp": 253_402_300_799})
    assert VERIFIER.verify(token, now=NOW).expires_at.year == 9999


def _unsigned() -> str:
    return f"{b64({**HEADER, 'alg': 'none'})}.{b64(CLAIMS)}."


def _hmac_with_the_public_key() -> str:
    """The classic: the public key, which everyone has, as an HMAC secret."""
    public = KEY.public_key()
    secret = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return jwt.encode(
        CLAIMS, secret, algorithm="HS256", headers={"kid": ISSUER.kid, "typ": "at+jwt"}
    )


def _elliptic_curve() -> str:
    key = generate_private_key(SECP256R1())
    return jwt.encode(CLAIMS, key, algorithm="ES256", headers={"kid": ISSUER.kid, "typ": "at+jwt"})


def _other_key_under_our_id() -> str:
    key = Ed25519PrivateKey.generate()
    return jwt.encode(CLAIMS, key, algorithm="EdDSA", headers={"kid": ISSUER.kid, "typ": "at+jwt"})


def _other_key() -> str:
    issuer = TokenIssuer(Ed25519PrivateKey.generate(), issuer="swarm", audience="gateway")
    return issuer.issue("u-1", "ada", Role.ADMIN, session="s-1", now=NOW)


def _changed_payload() -> str:
    header, _, signature = TOKEN.split(".")
    return f"{header}.{b64({**CLAIMS, 'role': 'admin'})}.{signature}"


def _without_key_id() -> str:
    return jwt.encode(CLAIMS, KEY, algorithm="EdDSA", headers={"typ": "at+jwt"})


def _key_in_the_header() -> str:
    key = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    headers = {"kid": ISSUER.kid, "typ": "at+jwt", "jwk": jwk}
    return jwt.encode(CLAIMS, key, algorithm="EdDSA", headers=headers)


@pytest.mark.parametrize(
    "forge",
    [
        _unsigned,
        _hmac_with_the_public_key,
        _elliptic_curve,
        _other_key_under_our_id,
        _other_key,
        _changed_payload,
        _without_key_id,
        _key_in_the_header,
        lambda: signed(CLAIMS, typ="JWT"),
        lambda: signed(CLAIMS, kid="other"),
        lambda: "",
        lambda: "a.b.c",
        lambda: "\ud800.\u00e9.x",
        lambda: f"{b64(HEADER)}.{b64(b'[]')}.{b64(b'x' * 64)}",
        lambda: f"{b64([])}.{b64(CLAIMS)}.",
        lambda: TOKEN[:-4],
        lambda: TOKEN + ".x",
        lambda: signed({**CLAIMS, "username": "x" * MAX_TOKEN_BYTES}),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_forged_or_broken_token_is_refused(forge: Callable[[], str]) -> None:
    with pytest.raises(InvalidToken):
        VERIFIER.verify(forge(), now=NOW)


def test_keys_can_be_replaced_while_old_tokens_run_out() -> None:
    new = TokenIssuer(Ed25519PrivateKey.generate(), issuer="swarm", audience="gateway")
    both = {**ISSUER.public_keys, **new.public_keys}
    verifier = TokenVerifier(both, issuer="swarm", audience="gateway")
    for issuer in (ISSUER, new):
        token = issuer.issue("u-1", "ada", Role.USER, session="s-1", now=NOW)
        assert verifier.verify(token, now=NOW).sub == "u-1"


def test_without_keys_nothing_is_valid() -> None:
    with pytest.raises(InvalidToken, match="not known here"):
        TokenVerifier({}, issuer="swarm", audience="gateway").verify(TOKEN, now=NOW)


def test_the_key_id_is_the_thumbprint_of_the_rfc() -> None:
    """The example of RFC 8037, appendix A.3."""
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    key = Ed25519PublicKey.from_public_bytes(x)
    assert key_thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_saved_key_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "token.pem"
    save_private_key(path, KEY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_private_key(path).private_bytes_raw() == KEY.private_bytes_raw()


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "token.pem"
    save_private_key(path, KEY)
    with pytest.raises(KeyFileError, match="could not be written"):
        save_private_key(path, Ed25519PrivateKey.generate())
    assert load_private_key(path).private_bytes_raw() == KEY.private_bytes_raw()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token.pem"
    save_private_key(path, KEY)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="by others"):
        load_private_key(path)


def test_a_file_without_our_kind_of_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token.pem"
    with pytest.raises(KeyFileError, match="could not be read"):
        load_private_key(path)
    path.touch(mode=0o600)
    with pytest.raises(KeyFileError, match="no private key in PEM"):
        load_private_key(path)
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeyFileError, match="not one for Ed25519"):
        load_private_key(path)
