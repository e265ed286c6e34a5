"""A witness whose directory is not the one that it wrote last, and one that was only killed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm.witness import disk
from swarm.witness.errors import WitnessStateLost
from swarm.witness.state import open_state
from tests.witnessing import NAME, WATCHED, cosigned, witness_that_signed


def refused(path: Path, sentence: str = "is a copy") -> None:
    with pytest.raises(WitnessStateLost, match=sentence), open_state(path, WATCHED):
        pass


def known_size(path: Path) -> int:
    with open_state(path, WATCHED, NAME) as state:
        return state.known.size


def put_back(backup: Path, path: Path, *files: str) -> None:
    """As `cp -a` does it: what exists keeps its inode, and its times are those of the copy."""
    for file in backup.iterdir():
        if not files or any(file.match(pattern) for pattern in files):
            shutil.copy2(file, path / file.name)


def write_as_version_1(path: Path, note: str) -> None:
    """As it was before there were marks; the inodes that it names are those that are there."""
    for mark in path.glob("mark-*"):
        mark.unlink()
    file = path / "state.json"
    kept = json.loads(file.read_bytes())
    before = {
        "version": 1,
        "witness": kept["witness"],
        "origin": kept["origin"],
        "inode": file.stat().st_ino,
        "key_inode": (path / "key").stat().st_ino,
        "note": note,
    }
    file.write_text(json.dumps(before))  # in place: the inode stays


@pytest.mark.parametrize("files", [(), ("state.json",), ("state.json", "mark-*")])
@pytest.mark.parametrize("further", range(1, 9))
def test_what_is_copied_back_in_place_is_noticed(
    tmp_path: Path, files: tuple[str, ...], further: int
) -> None:
    path, backup = tmp_path / "w", tmp_path / "backup"
    witness_that_signed(path, 4)
    shutil.copytree(path, backup)
    witness_that_signed(path, *range(5, 5 + further))
    put_back(backup, path, *files)
    refused(path)


def test_what_is_copied_back_into_an_emptied_directory_is_noticed(tmp_path: Path) -> None:
    path, backup = tmp_path / "w", tmp_path / "backup"
    witness_that_signed(path, 4)
    shutil.copytree(path, backup)
    witness_that_signed(path, 5)
    for file in path.iterdir():
        file.unlink()
    put_back(backup, path)
    refused(path)


@pytest.mark.parametrize("file", ["key", "mark-*"])
def test_another_mode_looks_like_a_copy_and_the_newest_checkpoint_helps(
    tmp_path: Path, file: str
) -> None:
    _, notes = witness_that_signed(tmp_path, 4)
    (changed,) = tmp_path.glob(file)
    changed.chmod(0o400)
    refused(tmp_path, "mode or owner was changed")
    with open_state(tmp_path, WATCHED, newest=notes[0]) as state:
        assert state.known.size == 4
    assert known_size(tmp_path) == 4


def test_at_most_one_mark_is_there(tmp_path: Path) -> None:
    for sizes in ((), (4,), (5, 6, 7)):
        witness_that_signed(tmp_path, *sizes)
        assert len(list(tmp_path.glob("mark-*"))) == 1


def test_a_mark_has_another_time_of_change_than_those_before_however_coarse_they_are(
    tmp_path: Path,
) -> None:
    class SameTick:
        """Times of change that are taken, three times over."""

        asked = 0

        def __contains__(self, ctime_ns: object) -> bool:
            self.asked += 1
            return self.asked <= 3

    taken = SameTick()
    stamp = disk.stamp(tmp_path / "mark", unlike=taken)
    assert taken.asked == 4
    assert stamp == disk.stamp_of(tmp_path / "mark")


def test_where_times_of_change_stand_still_nothing_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Always:
        def __contains__(self, ctime_ns: object) -> bool:
            return True

    monkeypatch.setattr(disk, "LONGEST_TICK_S", 0.02)
    with pytest.raises(OSError, match="stand still"):
        disk.stamp(tmp_path / "mark", unlike=Always())


class Killed(BaseException):
    """The process ends here."""


CHANGES = ("fsync", "replace", "rename", "unlink", "utime")


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int, moment: str) -> Callable[[], int]:
    """From the change of that number on nothing reaches the disk; says how many there were."""
    seen = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number and moment == "before":
                raise Killed
            try:
                return call(*arguments, **options)
            finally:
                if seen == number:
                    raise Killed

        return counted

    for name in CHANGES:
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    return lambda: seen


def begin(path: Path) -> None:
    with open_state(path, WATCHED, NAME):
        pass


def sign(path: Path) -> None:
    witness_that_signed(path, 9)


def from_newest(path: Path) -> None:
    with open_state(path, WATCHED, NAME) as state:
        newest = cosigned(state, 9)
    with open_state(path, WATCHED, newest=newest):
        pass


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("act", "before", "after"), [(begin, None, 0), (sign, 4, 9), (from_newest, 4, 9)]
)
def test_killed_at_any_change_it_starts_again_by_itself(
    tmp_path: Path,
    act: Callable[[Path], None],
    before: int | None,
    after: int,
    moment: str,
) -> None:
    number, changes = 1, 1
    while number <= changes:
        path, backup = tmp_path / f"{number}", tmp_path / f"{number}-backup"
        if before is not None:
            witness_that_signed(path, before)
        with pytest.MonkeyPatch.context() as broken:
            changed = killed_at(broken, number, moment)
            try:
                act(path)
            except Killed:
                changes = changed() + 1
        assert known_size(path) in {before or 0, after}
        shutil.copytree(path, backup)
        witness_that_signed(path, 12)
        assert known_size(path) == 12
        put_back(backup, path)
        refused(path)
        number += 1
    assert number > 4


def test_a_state_of_the_version_before_is_taken_over_with_the_newest_checkpoint_only(
    tmp_path: Path,
) -> None:
    _, notes = witness_that_signed(tmp_path, 4)
    write_as_version_1(tmp_path, notes[0])
    refused(tmp_path, "an earlier version.*--newest")
    with open_state(tmp_path, WATCHED, newest=notes[0]) as state:
        assert (state.known.size, state.note) == (4, notes[0])
    assert json.loads((tmp_path / "state.json").read_bytes())["version"] == 2
    assert known_size(tmp_path) == 4


def test_what_a_state_of_the_version_before_holds_counts_where_it_is_the_newer(
    tmp_path: Path,
) -> None:
    _, notes = witness_that_signed(tmp_path, 4, 5)
    write_as_version_1(tmp_path, notes[1])
    with open_state(tmp_path, WATCHED, newest=notes[0]) as state:
        assert state.known.size == 5


def test_a_state_of_the_version_before_that_is_put_back_is_refused_though_its_inodes_came_again(
    tmp_path: Path,
) -> None:
    _, (note,) = witness_that_signed(tmp_path, 4)
    write_as_version_1(tmp_path, note)
    with open_state(tmp_path, WATCHED, newest=note):
        pass
    witness_that_signed(tmp_path, 5)
    write_as_version_1(tmp_path, note)
    refused(tmp_path, "an earlier version.*--newest")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_a_state_of_the_version_before_is_taken_over_the_newest_checkpoint_helps(
    tmp_path: Path, moment: str
) -> None:
    number, changes = 1, 1
    while number <= changes:
        path = tmp_path / f"{number}"
        _, (note,) = witness_that_signed(path, 4)
        write_as_version_1(path, note)
        with pytest.MonkeyPatch.context() as broken:
            changed = killed_at(broken, number, moment)
            try:
                with open_state(path, WATCHED, newest=note):
                    pass
            except Killed:
                changes = changed() + 1
        with open_state(path, WATCHED, newest=note) as state:
            assert state.known.size == 4
        assert known_size(path) == 4
        number += 1
    assert number > 4
