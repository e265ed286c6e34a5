"""The key of the audit log, and the root's word over it."""

from pathlib import Path

from bus import jwt
from bus.identity import Authority
from cluster.home import open_home
from cluster.log_key import log_key_jwt, log_key_jwt_file, log_verifier_key
from cluster.people import audit_key_file
from storage.note import VerifierKey
from swarm.verify.note import log_key


def test_the_root_vouches_for_the_key_and_the_verifier_reads_it(tmp_path: Path) -> None:
    home, root = open_home(tmp_path / "home"), Authority.create()
    token = log_key_jwt(home, root)
    key = log_verifier_key(home)
    told = log_key(token)
    assert (told.name, told.public, told.id) == (key.name, key.public_key, key.id)
    assert told.voucher == root.operator_public_key
    assert jwt.decode(token)["nats"] == {"type": "generic", "version": 2, "tags": ["log"]}
    assert VerifierKey.parse(str(jwt.decode(token)["sub"])) == key
    assert log_key_jwt_file(home).stat().st_mode & 0o777 == 0o600


def test_the_word_is_kept_as_long_as_root_and_key_are_the_same(tmp_path: Path) -> None:
    home, root = open_home(tmp_path / "home"), Authority.create()
    token = log_key_jwt(home, root)
    assert log_key_jwt(home, root) == token == log_key_jwt_file(home).read_text().strip()


def test_another_root_another_key_or_a_spoilt_file_make_it_given_anew(tmp_path: Path) -> None:
    home, root = open_home(tmp_path / "home"), Authority.create()
    first = log_key_jwt(home, root)
    other = Authority.create()
    second = log_key_jwt(home, other)
    assert log_key(second).voucher == other.operator_public_key
    audit_key_file(home).unlink()
    third = log_key_jwt(home, other)
    assert log_key(third).public not in (log_key(first).public, log_key(second).public)
    log_key_jwt_file(home).write_text("nonsense")
    assert log_key(log_key_jwt(home, other)) == log_key(third)
