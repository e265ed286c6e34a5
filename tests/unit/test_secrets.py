"""The search for secrets finds what is there, and does not repeat it."""

from datetime import UTC, datetime
from pathlib import Path

import psutil

from bus.custody import SubjectKeyDirectory
from bus.identity import Authority
from bus.nkey import encode_base64url
from tests.secrets import files_below, modes, secrets_of, seen, told_by


def test_every_seed_is_a_secret_and_the_ring_is_none(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    secrets = secrets_of(tmp_path)
    assert {name.partition(":")[0] for name in secrets} == {
        "operator.seed", "signing.seed", "system.seed", "log.seed",
    }  # fmt: skip
    assert modes(tmp_path) == {0o600}


def test_the_key_of_a_person_is_a_secret_until_it_is_destroyed(tmp_path: Path) -> None:
    subjects = SubjectKeyDirectory(tmp_path / "subjects")
    key = subjects.find_or_make("ann")
    assert isinstance(key, bytes)
    assert list(secrets_of(tmp_path).values()) == [encode_base64url(key).encode()]
    subjects.forget("ann", now=datetime.now(UTC))
    assert secrets_of(tmp_path) == {}
    assert modes(tmp_path) == {0o600}


def test_a_secret_in_a_file_is_found_and_not_repeated(tmp_path: Path) -> None:
    secret = b"SOAKEEPTHISTOYOURSELF"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.log").write_bytes(b"x" + secret + b"y")
    (tmp_path / "b.log").write_bytes(b"nothing")
    sightings = seen({"operator.seed:1": secret}, files_below(tmp_path))
    assert sightings == [f"operator.seed:1 in {tmp_path / 'sub' / 'a.log'}"]


def test_an_environment_and_a_command_line_are_read() -> None:
    places = dict(told_by([psutil.Process()]))
    assert any(b"python" in content for content in places.values())
    assert len(places) == 2


def test_the_ring_on_disk_holds_no_seed(tmp_path: Path) -> None:
    Authority.create().save(tmp_path)
    ring = (tmp_path / "ring.json").read_bytes()
    assert seen(secrets_of(tmp_path), [("ring.json", ring)]) == []
