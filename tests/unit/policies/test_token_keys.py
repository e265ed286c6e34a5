"""Signing keys that take each other's place."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from policies.errors import InvalidToken, KeyFileError
from policies.roles import Role
from policies.token_keys import NOTICE_S, REREAD_S, KeyFolder, TokenKeys, read_ring, rotate
from policies.tokens import DEFAULT_LEEWAY_S, save_private_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIFE_S = 3600
KEPT = timedelta(seconds=LIFE_S + DEFAULT_LEEWAY_S + NOTICE_S)


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.pem"
    save_private_key(path, Ed25519PrivateKey.generate())
    return path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(path: Path, clock: Clock) -> TokenKeys:
    return over(path, clock)


def over(path: Path, clock: Clock) -> TokenKeys:
    folder = KeyFolder(path, monotonic=clock)
    return TokenKeys(folder.read, issuer="swarm", audience="gateway", life_s=LIFE_S)


def token(keys: TokenKeys, now: datetime = NOW) -> str:
    return keys.issue("u1", "ada", Role.USER, session="s1", now=now)


def kids(keys: TokenKeys, now: datetime = NOW) -> list[str]:
    return [key["kid"] for key in keys.public_keys(now=now)]


def test_a_new_key_is_noticed_and_the_old_one_still_verifies(
    path: Path, keys: TokenKeys, clock: Clock
) -> None:
    old = token(keys)
    rotate(path, now=NOW)
    assert len(kids(keys)) == 1
    clock.s += REREAD_S
    assert keys.verify(old, now=NOW).sub == "u1"
    new = token(keys)
    assert keys.verify(new, now=NOW).sid == "s1"
    assert len(set(kids(keys))) == 2


def test_the_old_key_is_forgotten_when_its_last_token_has_expired(
    path: Path, keys: TokenKeys, clock: Clock
) -> None:
    (old_kid,) = kids(keys)
    rotate(path, now=NOW)
    clock.s += REREAD_S
    last = token(over(path, clock), NOW)
    assert keys.verify(last, now=NOW + timedelta(seconds=LIFE_S - 1))
    assert old_kid in kids(keys, NOW + KEPT - timedelta(seconds=1))
    assert old_kid not in kids(keys, NOW + KEPT)


def test_a_key_that_leaked_can_be_dropped_at_once(
    path: Path, keys: TokenKeys, clock: Clock
) -> None:
    old = token(keys)
    assert keys.verify(old, now=NOW).sub == "u1"
    rotate(path, now=NOW, keep=False)
    clock.s += REREAD_S
    with pytest.raises(InvalidToken, match="not known here"):
        keys.verify(old, now=NOW)
    assert len(kids(keys)) == 1


def test_many_rotations_keep_every_token_that_is_still_valid(
    path: Path, keys: TokenKeys, clock: Clock
) -> None:
    tokens = []
    for hour in range(4):
        now = NOW + timedelta(minutes=15 * hour)
        tokens.append(token(keys, now))
        rotate(path, now=now)
        clock.s += REREAD_S
    now = NOW + timedelta(minutes=59)
    assert [keys.verify(each, now=now).sub for each in tokens] == ["u1"] * 4
    assert len(kids(keys, now)) == 5


def test_keys_that_nobody_can_need_any_more_are_not_kept_for_ever(path: Path) -> None:
    for month in range(4):
        ring = rotate(path, now=NOW + timedelta(days=40 * month))
    assert len(ring.retired) == 1


def test_another_gateway_that_starts_knows_all_of_them(path: Path, clock: Clock) -> None:
    old = token(over(path, clock))
    rotate(path, now=NOW)
    assert over(path, clock).verify(old, now=NOW).sub == "u1"


def test_a_rotation_that_dies_between_its_two_writes_breaks_nothing(
    path: Path, keys: TokenKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    old = token(keys)
    monkeypatch.setattr("policies.token_keys.save_private_key", die)
    with pytest.raises(KeyFileError, match="No space"):
        rotate(path, now=NOW)
    monkeypatch.undo()
    clock.s += REREAD_S
    assert keys.verify(old, now=NOW).sub == "u1"
    assert keys.verify(token(keys), now=NOW).sub == "u1"
    rotate(path, now=NOW)
    clock.s += REREAD_S
    assert keys.verify(old, now=NOW).sub == "u1"


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"x": "AA", "retired_at": 1}]', "null"])
def test_files_that_became_unreadable_leave_the_last_good_ring_in_force(
    path: Path, keys: TokenKeys, clock: Clock, content: str
) -> None:
    old = token(keys)
    path.with_name("tokens.retired.json").write_text(content)
    with pytest.raises(KeyFileError, match="retired"):
        read_ring(path)
    clock.s += REREAD_S
    assert keys.verify(old, now=NOW).sub == "u1"


def test_no_private_half_of_a_retired_key_is_kept_and_all_files_are_private(path: Path) -> None:
    private = read_ring(path).signing.private_bytes_raw()
    rotate(path, now=NOW)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert private not in file.read_bytes()
    retired = json.loads(path.with_name("tokens.retired.json").read_bytes())
    assert [sorted(each) for each in retired] == [["retired_at", "x"]]


def test_the_public_keys_are_jwks_and_nothing_else(keys: TokenKeys) -> None:
    (jwk,) = keys.public_keys(now=NOW)
    assert set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")


def test_a_ring_shows_no_private_key(path: Path) -> None:
    assert "Private" not in repr(read_ring(path))
