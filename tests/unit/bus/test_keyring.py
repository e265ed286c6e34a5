"""The ring of keys on disk: whatever moment it is killed at, the old one counts or the new one."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from bus.accounts import Account
from bus.errors import IdentityError
from bus.identity import Authority, vouch_for_log
from bus.keyring import KeyDirectory
from bus.nkey import ACCOUNT, OPERATOR, AgentKey
from bus.ring import (
    Ring,
    told,
    with_new_root,
    with_new_signing_key,
    with_revoked,
    without_old_signing_keys,
)
from bus.trust_payloads import IdentityRevoked, RootRotated, TrustChange

ASKED = TrustChange(requested_by="vic")


class Killed(BaseException):
    """The process is gone."""


def with_another_key(authority: Authority) -> tuple[Ring, dict[str, AgentKey]]:
    key = AgentKey.generate(ACCOUNT)
    ring = with_new_signing_key(
        authority.ring, authority.root_key, key.public, now=100, grace_s=60, change=ASKED
    )
    return ring, {**authority.keys, key.public: key}


def with_another_root(authority: Authority) -> tuple[Ring, dict[str, AgentKey]]:
    new = AgentKey.generate(OPERATOR)
    ring = with_new_root(authority.ring, authority.root_key, new, now=100, change=ASKED)
    return ring, {**authority.keys, new.public: new}


Change = Callable[[Authority], tuple[Ring, dict[str, AgentKey]]]


@pytest.mark.parametrize("change", [with_another_key, with_another_root])
def test_killed_between_any_two_steps_the_old_ring_counts_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    for step in range(1, 30):
        folder = tmp_path / str(step)
        folder.mkdir()
        Authority.create().save(folder)
        before = Authority.load(folder)
        ring, keys = change(before)
        left = step

        def counted(real: Callable[..., object], *arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return real(*arguments, **named)

        def as_method(real: Callable[..., object]) -> Callable[..., object]:
            return lambda *arguments, **named: counted(real, *arguments, **named)

        with monkeypatch.context() as patch:
            for owner, name in ((os, "open"), (os, "fsync"), (Path, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, as_method(getattr(owner, name)))
            try:
                KeyDirectory(folder).commit(ring, keys)
            except Killed:
                pass
            else:
                break
        after = Authority.load(folder)
        assert after.ring.account_jwt in (before.ring.account_jwt, ring.account_jwt)
        KeyDirectory(folder).commit(*_again(after, ring, keys))
        assert Authority.load(folder).ring.account_jwt == ring.account_jwt
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert not list(folder.glob(".*"))
    else:
        pytest.fail("it never came to an end")
    assert step > 5


def _again(
    after: Authority, ring: Ring, keys: dict[str, AgentKey]
) -> tuple[Ring, dict[str, AgentKey]]:
    return (ring, keys) if after.ring.account_jwt != ring.account_jwt else (after.ring, after.keys)


def test_the_private_half_of_a_root_that_was_replaced_is_gone(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    before = Authority.load(tmp_path)
    seed = before.root_key.export_seed()
    KeyDirectory(tmp_path).commit(*with_another_root(before))
    assert not [path for path in tmp_path.iterdir() if seed in path.read_text()]


def test_a_root_that_the_log_was_not_told_of_keeps_its_word_over_the_logs_key(
    tmp_path: Path,
) -> None:
    authority, new = Authority.create(), AgentKey.generate(OPERATOR)
    authority.save(tmp_path)
    authority, word = Authority.load(tmp_path), vouch_for_log(new, "a log", "its key")
    ring = with_new_root(
        authority.ring, authority.root_key, new, now=100, change=ASKED, log_key_jwt=word
    )
    KeyDirectory(tmp_path).commit(ring, {**authority.keys, new.public: new})
    after = Authority.load(tmp_path).ring
    payload = after.untold[0].payload
    assert isinstance(payload, RootRotated)
    assert (payload.log_key_jwt, after.roots) == (word, (payload,))


def test_a_root_that_an_earlier_version_did_not_tell_of_is_told_as_it_was(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    KeyDirectory(tmp_path).commit(*with_another_root(Authority.load(tmp_path)))
    kept, file = Authority.load(tmp_path).ring, tmp_path / "ring.json"
    document = json.loads(file.read_text())
    for payload in (document["untold"][0]["payload"], *document["roots"]):
        assert payload.pop("log_key_jwt") == ""
    file.write_text(json.dumps(document))
    assert Authority.load(tmp_path).ring == kept


def test_an_interrupted_first_creation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "operator.seed").write_text(AgentKey.generate(OPERATOR).export_seed())
    assert not KeyDirectory(tmp_path).exists
    made = Authority.create()
    made.save(tmp_path)
    assert Authority.load(tmp_path).operator_public_key == made.operator_public_key


def test_keys_of_a_version_without_a_ring_are_taken_over(tmp_path: Path) -> None:
    kinds = {"operator": OPERATOR, "account": ACCOUNT, "system": ACCOUNT, "log": ACCOUNT}
    keys = {name: AgentKey.generate(kind) for name, kind in kinds.items()}
    for name, key in keys.items():
        (tmp_path / f"{name}.seed").write_text(key.export_seed() + "\n")
    authority = Authority.load(tmp_path)
    assert authority.ring.issuing == authority.account_public_key == keys["account"].public
    KeyDirectory(tmp_path).commit(*with_another_key(authority))
    ring = Authority.load(tmp_path).ring
    assert len(ring.signing) == 2
    assert ring.first.jwt == authority.account_jwt


def test_a_folder_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with pytest.raises(IdentityError, match=str(folder)), KeyDirectory(folder).locked():
        pass
    assert not folder.exists()


def test_a_ring_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    (tmp_path / "ring.json").write_text("{}")
    with pytest.raises(IdentityError, match="ring.json"):
        Authority.load(tmp_path)


def test_a_new_signing_key_issues_once_the_log_knows_of_it() -> None:
    authority = Authority.create()
    ring, _ = with_another_key(authority)
    assert ring.issuing == authority.ring.issuing
    assert set(ring.signing) < Account.parse(ring.account_jwt).signers
    ring = told(ring, ring.untold[0].id)
    assert (ring.issuing, ring.untold) == (ring.signing[0], ())


def test_the_older_key_leaves_after_its_grace_and_never_while_it_issues() -> None:
    authority = Authority.create()
    root, (ring, _) = authority.root_key, with_another_key(authority)
    assert without_old_signing_keys(ring, root, now=1e9, change=ASKED) == ring
    ring = told(ring, ring.untold[0].id)
    assert without_old_signing_keys(ring, root, now=159, change=ASKED) == ring
    for at_once, now in ((False, 160.0), (True, 101.0)):
        out = without_old_signing_keys(ring, root, now=now, change=ASKED, at_once=at_once)
        assert out.signing == (ring.issuing,)
        assert len(out.untold) == 1


def test_a_revoked_key_is_in_the_account_and_its_member_is_kept_out() -> None:
    authority, key = Authority.create(), AgentKey.generate().public
    revoked = IdentityRevoked(role="coder", name="c-1", public_key=key, requested_by="v")
    ring = with_revoked(authority.ring, authority.root_key, (revoked,), now=5)
    assert ring.barred == {"coder/c-1"}
    assert ring.account_jwt != authority.ring.account_jwt
    assert with_revoked(ring, authority.root_key, (revoked,), now=6) == ring
