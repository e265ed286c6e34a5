"""The authority's keys on disk."""

import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bus import jwt
from bus.errors import IdentityError
from bus.identity import LAUNCHER_ROLE, Authority, Permissions
from bus.nkey import AgentKey


def test_saved_keys_are_loaded_back(tmp_path: Path) -> None:
    authority = Authority.create()
    authority.save(tmp_path)
    again = Authority.load(tmp_path)
    assert again.operator_jwt == authority.operator_jwt
    assert again.account_jwt == authority.account_jwt
    assert again.system_account_jwt == authority.system_account_jwt
    assert again.log_account_jwt == authority.log_account_jwt


def test_saved_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_saved_keys_are_never_replaced(tmp_path: Path) -> None:
    authority = Authority.create()
    authority.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(IdentityError, match="operator"):
        Authority.create().save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["operator", "signing", "system", "log"])
def test_a_missing_or_damaged_key_is_named_and_not_shown(tmp_path: Path, name: str) -> None:
    Authority.create().save(tmp_path)
    path = tmp_path / f"{name}.seed"
    seed = path.read_text()
    path.write_text(seed[:20])
    with pytest.raises(IdentityError, match=name) as caught:
        Authority.load(tmp_path)
    assert seed[:20] not in str(caught.value)
    path.unlink()
    with pytest.raises(IdentityError, match=name):
        Authority.load(tmp_path)


def test_keys_of_an_earlier_version_are_told_from_damaged_ones(tmp_path: Path) -> None:
    for name in ("operator", "account", "system"):
        (tmp_path / f"{name}.seed").touch()
    with pytest.raises(IdentityError, match="earlier version") as caught:
        Authority.load(tmp_path)
    assert str(tmp_path / "log.seed") in str(caught.value)


def test_only_a_launcher_is_of_the_account_that_holds_the_log() -> None:
    authority, key = Authority.create(), AgentKey.generate().public
    permissions = Permissions(publish=(), subscribe=())
    issuers = {
        role: authority.issue(
            key, role=role, name="x", permissions=permissions, ttl=timedelta(hours=1)
        ).account
        for role in ("coder", "authority", "observer", LAUNCHER_ROLE)
    }
    assert issuers.pop(LAUNCHER_ROLE) == authority.log_account_public_key
    assert set(issuers.values()) == {authority.account_public_key}


def test_the_members_account_has_no_store_and_sees_of_the_log_only_what_is_shared() -> None:
    authority = Authority.create()
    members, log = (_nats(token) for token in (authority.account_jwt, authority.log_account_jwt))
    assert (members["limits"]["streams"], log["limits"]["streams"]) == (0, -1)
    imports = {(one["type"], one["subject"]) for one in members["imports"]}
    assert imports == {(one["type"], one["subject"]) for one in log["exports"]}
    assert {one["account"] for one in members["imports"]} == {authority.log_account_public_key}
    removing = ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "MSG.DELETE", "CONSUMER.DELETE")
    assert not [subject for _, subject in imports if any(verb in subject for verb in removing)]
    assert "imports" not in log


def test_a_credential_is_issued_for_a_key_only() -> None:
    permissions = Permissions(publish=(), subscribe=())
    with pytest.raises(IdentityError):
        Authority.create().issue(
            "nobody", role="coder", name="c", permissions=permissions, ttl=timedelta(hours=1)
        )


def test_two_authorities_share_no_key() -> None:
    one, other = Authority.create(), Authority.create()
    keys = [
        key
        for a in (one, other)
        for key in (
            a.operator_public_key,
            a.account_public_key,
            a.system_account_public_key,
            a.log_account_public_key,
        )
    ]
    assert len(set(keys)) == len(keys)
    assert [key[0] for key in keys] == ["O", "A", "A", "A"] * 2
    assert AgentKey.generate().public[0] == "U"


def _nats(token: str) -> dict[str, Any]:
    claims: Any = jwt.decode(token)["nats"]
    assert isinstance(claims, dict)
    return claims
