"""The authority's keys on disk."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from bus.errors import IdentityError
from bus.identity import Authority, Permissions
from bus.nkey import AgentKey


def test_saved_keys_are_loaded_back(tmp_path: Path) -> None:
    authority = Authority.create()
    authority.save(tmp_path)
    again = Authority.load(tmp_path)
    assert again.operator_jwt == authority.operator_jwt
    assert again.account_jwt == authority.account_jwt
    assert again.system_account_jwt == authority.system_account_jwt


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


@pytest.mark.parametrize("name", ["operator", "account", "system"])
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
        for key in (a.operator_public_key, a.account_public_key, a.system_account_public_key)
    ]
    assert len(set(keys)) == len(keys)
    assert [key[0] for key in keys] == ["O", "A", "A"] * 2
    assert AgentKey.generate().public[0] == "U"
