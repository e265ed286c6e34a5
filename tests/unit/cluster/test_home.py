import os
import stat
from pathlib import Path

import pytest

from cluster.errors import HomeNotUsable
from cluster.home import RAY_PATH_BYTES, locate, open_home, own, secret, write_private


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_private_with_all_its_folders(tmp_path: Path) -> None:
    home = open_home(tmp_path / "a" / "home")
    for folder in (home.root, home.keys, home.logs, home.run, home.nats, home.models):
        assert _mode(folder) == 0o700


def test_a_home_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert _mode(open_home(tmp_path).root) == 0o700


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(HomeNotUsable, match=r"home: a file is in the way"):
        open_home(tmp_path / "home")


def test_a_file_above_the_home_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotUsable, match="a file is in the way"):
        open_home(tmp_path / "file" / "home")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to("/")
    with pytest.raises(HomeNotUsable, match="not a directory"):
        open_home(tmp_path)


def test_a_directory_that_cannot_be_written_is_a_clear_error() -> None:
    # A kernel file system refuses everyone, root included.
    with pytest.raises(HomeNotUsable, match="Cannot use /proc/swarm"):
        open_home(Path("/proc/swarm"))


def test_a_full_disk_shows_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HomeNotUsable, match="no space left on the disk"):
        open_home(tmp_path)
    assert list((tmp_path / "run").iterdir()) == []


def test_rays_directory_is_short_however_long_the_home(tmp_path: Path) -> None:
    long = locate(tmp_path / ("x" * 80))
    other = locate(tmp_path / ("y" * 80))
    assert len(os.fsencode(long.ray)) <= RAY_PATH_BYTES
    assert long.ray != other.ray
    assert locate(Path("/s")).ray == Path("/s/ray")


def test_two_spellings_of_one_home_are_one_swarm(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert locate(tmp_path / "link").instance == locate(tmp_path / "home").instance


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "password"
    first = secret(path)
    assert len(first) == 64
    assert secret(path) == first
    assert _mode(path) == 0o600


def test_a_private_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    write_private(path, b"first")

    def broken(_descriptor: int) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="I/O error"):
        write_private(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_of_someone_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(HomeNotUsable, match="belongs to user"):
        own(tmp_path)
