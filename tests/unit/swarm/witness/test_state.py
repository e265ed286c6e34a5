"""What a witness keeps, and what it refuses to go on from."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from storage.checkpoint import parse_checkpoint
from storage.errors import BadCheckpoint
from storage.note import VerifierKey
from swarm.witness.decide import Known
from swarm.witness.errors import (
    WitnessLocked,
    WitnessMismatch,
    WitnessNotUsable,
    WitnessStateLost,
)
from swarm.witness.state import MOST_CONTRADICTIONS, MOST_UNPROVEN, Watched, open_state
from tests.branching import LOG_VKEY, ORIGIN, Branch
from tests.witnessing import MAIN, NAME, WATCHED, cosigned, witness_that_signed


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    with open_state(tmp_path / "w", WATCHED, NAME) as state:
        first = str(state.parties.own_key)
        assert state.known == Known()
    with open_state(tmp_path / "w", WATCHED) as state:
        assert str(state.parties.own_key) == first
    for file in ("key", "state.json", "lock"):
        assert stat.S_IMODE((tmp_path / "w" / file).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o700


def test_what_was_kept_is_known_again(tmp_path: Path) -> None:
    _, notes = witness_that_signed(tmp_path, 5, 9)
    with open_state(tmp_path, WATCHED) as state:
        assert state.known == Known(size=9, root=MAIN.root(9), time_s=1)
        assert state.note == notes[-1]


def test_a_note_that_is_not_cosigned_is_not_kept(tmp_path: Path) -> None:
    with open_state(tmp_path, WATCHED, NAME) as state:
        with pytest.raises(BadCheckpoint, match="carries no signature"):
            state.keep(MAIN.note(9))
        assert state.known == Known()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        open_state(tmp_path, WATCHED, NAME),
        pytest.raises(WitnessLocked, match="Another process"),
        open_state(tmp_path, WATCHED),
    ):
        pass


@pytest.mark.parametrize(
    ("watched", "name"),
    [
        (Watched(origin="example.com/other", keys=(LOG_VKEY,)), None),
        (WATCHED, "witness.example/w2"),
    ],
)
def test_a_directory_of_another_log_or_name_is_refused(
    tmp_path: Path, watched: Watched, name: str | None
) -> None:
    witness_that_signed(tmp_path, 5)
    with pytest.raises(WitnessMismatch, match="belongs to"), open_state(tmp_path, watched, name):
        pass


def test_a_log_may_change_its_key_while_both_are_given(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    next_key = VerifierKey(name=ORIGIN, public_key=b"k" * 32)
    alone = Watched(origin=ORIGIN, keys=(next_key,))
    with pytest.raises(WitnessMismatch, match="give that key"), open_state(tmp_path, alone):
        pass
    with open_state(tmp_path, Watched(origin=ORIGIN, keys=(next_key, LOG_VKEY))) as state:
        assert state.known.size == 5


@pytest.mark.parametrize("name", ["", "two words", "a+b"])
def test_a_name_that_cannot_stand_in_a_note_is_refused(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "new", tmp_path / "old"):
        if path.name == "old":
            witness_that_signed(path, 5)
        with pytest.raises(WitnessMismatch, match="cannot be"), open_state(path, WATCHED, name):
            pass


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(WitnessStateLost, match=sentence), open_state(path, WATCHED):
        pass


def test_a_lost_state_is_noticed(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    (tmp_path / "state.json").unlink()
    with (
        pytest.raises(WitnessStateLost, match="not what was signed"),
        open_state(tmp_path, WATCHED, NAME),
    ):
        pass
    refused(tmp_path, "give --name")


def test_a_lost_key_is_noticed(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    (tmp_path / "key").unlink()
    refused(tmp_path, "is gone")


def test_a_directory_copied_back_is_noticed(tmp_path: Path) -> None:
    """It may be older than what was signed last, as this one is."""
    path, backup = tmp_path / "w", tmp_path / "backup"
    witness_that_signed(path, 5)
    shutil.copytree(path, backup)
    witness_that_signed(path, 9)
    shutil.rmtree(path)
    shutil.copytree(backup, path)
    refused(path, "is a copy")


def test_a_directory_that_was_moved_goes_on_with_the_newest_checkpoint(tmp_path: Path) -> None:
    path, moved = tmp_path / "w", tmp_path / "moved"
    _, notes = witness_that_signed(path, 5, 9)
    shutil.copytree(path, moved)
    with open_state(moved, WATCHED, newest=notes[1]) as state:
        assert state.known.size == 9
    with open_state(moved, WATCHED) as state:
        assert state.known.size == 9


def test_a_state_file_copied_back_is_noticed(tmp_path: Path) -> None:
    path, backup = tmp_path / "w", tmp_path / "state.json"
    witness_that_signed(path, 5)
    shutil.copy2(path / "state.json", backup)
    witness_that_signed(path, 9)
    backup.replace(path / "state.json")
    refused(path, "is a copy")


@pytest.mark.parametrize("at", ["note", "size", "witness", "end"])
def test_a_damaged_state_is_noticed(tmp_path: Path, at: str) -> None:
    witness_that_signed(tmp_path, 5)
    file = tmp_path / "state.json"
    kept = json.loads(file.read_bytes())
    note = kept["note"]
    damaged = {
        "note": {**kept, "note": note[:-5] + ("A" if note[-5] != "A" else "B") + note[-4:]},
        "size": {**kept, "note": note.replace("\n5\n", "\n4\n")},
        "witness": {**kept, "witness": 7},
    }
    text = file.read_text()[:-9] if at == "end" else json.dumps(damaged[at])
    with file.open("r+") as stored:  # in place: the same inode
        stored.truncate()
        stored.write(text)
    refused(tmp_path, "damaged")


def test_a_damaged_key_is_noticed(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    (tmp_path / "key").write_text("ab")
    refused(tmp_path, "key in .* is damaged")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(WitnessNotUsable, match="Others may read"), open_state(tmp_path, WATCHED):
        pass


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(WitnessNotUsable, match="Cannot use"),
        open_state(tmp_path / "file", WATCHED, NAME),
    ):
        pass


def test_after_a_loss_it_goes_on_from_the_newest_checkpoint_that_it_cosigned(
    tmp_path: Path,
) -> None:
    own_key, notes = witness_that_signed(tmp_path, 5, 9)
    (tmp_path / "state.json").unlink()
    with open_state(tmp_path, WATCHED, NAME, newest=notes[1]) as state:
        assert str(state.parties.own_key) == own_key
        assert state.known.size == 9
    with open_state(tmp_path, WATCHED) as state:
        assert state.known.size == 9


def test_a_newest_checkpoint_that_is_older_than_the_state_takes_nothing_back(
    tmp_path: Path,
) -> None:
    _, notes = witness_that_signed(tmp_path, 5, 9)
    with open_state(tmp_path, WATCHED, newest=notes[0]) as state:
        assert (state.known.size, state.note) == (9, notes[1])


def test_a_newest_checkpoint_that_it_did_not_cosign_is_refused(tmp_path: Path) -> None:
    witness_that_signed(tmp_path / "w", 5)
    with open_state(tmp_path / "other", WATCHED, NAME) as other:
        foreign = cosigned(other, 9)
    for note in (foreign, MAIN.note(9), "nonsense"):
        with (
            pytest.raises(WitnessStateLost, match="cannot be used"),
            open_state(tmp_path / "w", WATCHED, newest=note),
        ):
            pass


def test_a_start_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    """Nothing was signed before the key has its name."""
    witness_that_signed(tmp_path)
    (tmp_path / "key").rename(tmp_path / "key.new")
    with open_state(tmp_path, WATCHED, NAME) as state:
        assert state.known == Known()
    assert not (tmp_path / "key.new").exists()


@pytest.mark.parametrize(
    ("folder", "most"), [("contradictions", MOST_CONTRADICTIONS), ("unproven", MOST_UNPROVEN)]
)
def test_contradictions_are_kept_but_not_without_end(
    tmp_path: Path, folder: str, most: int
) -> None:
    long = Branch.of(("c", 2 * most))
    with open_state(tmp_path, WATCHED, NAME) as state:
        keep = state.keep_contradiction if folder == "contradictions" else state.keep_unproven
        for size in range(1, 2 * most):
            keep(parse_checkpoint(long.note(size)))
            keep(parse_checkpoint(long.note(size)))
    files = sorted((tmp_path / folder).iterdir())
    assert len(files) == most
    assert long.note(1) in [file.read_text() for file in files]


def test_the_seed_is_in_no_file_but_its_own(tmp_path: Path) -> None:
    witness_that_signed(tmp_path, 5)
    seed = (tmp_path / "key").read_text()
    assert SigningKey(bytes.fromhex(seed))
    others = [file for file in tmp_path.iterdir() if file.name != "key"]
    assert others
    assert not [file for file in others if seed in file.read_text()]
