"""The keys of people on the disk: made once, the same for everybody, gone for good."""

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bus.custody import Forgotten, SubjectKeyDirectory
from bus.errors import IdentityError, SubjectKeyUnavailable

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> SubjectKeyDirectory:
    return SubjectKeyDirectory(tmp_path / "subjects")


def made(keys: SubjectKeyDirectory, subject: str) -> bytes:
    key = keys.find_or_make(subject)
    assert isinstance(key, bytes)
    return key


def test_a_key_is_made_once(keys: SubjectKeyDirectory) -> None:
    assert keys.find("ann") is None
    key = made(keys, "ann")
    assert len(key) == 32
    assert keys.find("ann") == made(keys, "ann") == key
    assert made(keys, "bob") != key


def test_nobody_else_of_the_machine_reads_it(keys: SubjectKeyDirectory) -> None:
    made(keys, "ann")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.path.iterdir()} == {0o600}


def test_all_who_make_it_at_once_have_the_same(keys: SubjectKeyDirectory) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: made(keys, "ann"), range(64)))) == 1
    assert len(list(keys.path.iterdir())) == 1


def test_a_destroyed_key_is_nowhere_and_none_is_made_again(keys: SubjectKeyDirectory) -> None:
    made(keys, "ann")
    kept = [file.read_text() for file in keys.path.iterdir()]
    gone = keys.forget("ann", now=NOW)
    assert gone == Forgotten(at=NOW) == keys.find("ann") == keys.find_or_make("ann")
    left = "".join(file.read_text() for file in keys.path.iterdir())
    assert "key" not in left
    assert kept[0] not in left


def test_the_bytes_of_a_destroyed_key_are_written_over(keys: SubjectKeyDirectory) -> None:
    made(keys, "ann")
    (file,) = keys.path.iterdir()
    with file.open("rb") as before:
        keys.forget("ann", now=NOW)
        assert before.read().strip() == b""


def test_forgetting_again_changes_nothing(keys: SubjectKeyDirectory) -> None:
    keys.forget("ann", now=NOW)
    assert keys.forget("ann", now=datetime.now(UTC)) == Forgotten(at=NOW)


def test_who_was_never_known_can_be_forgotten(keys: SubjectKeyDirectory) -> None:
    keys.forget("ann", now=NOW)
    assert keys.find_or_make("ann") == Forgotten(at=NOW)


def test_a_destruction_that_was_interrupted_counts_and_can_be_ended(
    keys: SubjectKeyDirectory,
) -> None:
    made(keys, "ann")
    (file,) = keys.path.iterdir()
    file.write_bytes(b" " * file.stat().st_size)
    assert isinstance(keys.find_or_make("ann"), Forgotten)
    keys.forget("ann", now=NOW)
    assert b"forgotten" in file.read_bytes()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"key": 1}', '{"key": "AAAA"}', '{"forgotten": "soon"}']
)
def test_a_file_that_is_no_key_is_an_error_that_names_it(
    keys: SubjectKeyDirectory, text: str
) -> None:
    made(keys, "ann")
    (file,) = keys.path.iterdir()
    file.write_text(text)
    with pytest.raises(IdentityError, match=str(file)):
        keys.find_or_make("ann")


def test_a_folder_that_cannot_be_read_may_be_asked_again(tmp_path: Path) -> None:
    (tmp_path / "subjects").write_text("a file")
    with pytest.raises(SubjectKeyUnavailable) as raised:
        SubjectKeyDirectory(tmp_path / "subjects").find_or_make("ann")
    assert raised.value.retryable


def test_a_new_key_that_cannot_be_stored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError):
        SubjectKeyDirectory(tmp_path / "not" / "there").find_or_make("ann")


def test_whatever_a_person_is_called_makes_no_path(keys: SubjectKeyDirectory) -> None:
    for subject in ("../ann", "/etc/passwd", "\0", "a" * 500, ""):
        made(keys, subject)
    assert len(list(keys.path.iterdir())) == 5
