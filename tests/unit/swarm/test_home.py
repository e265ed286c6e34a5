"""Finding the swarm on this machine."""

import json
from pathlib import Path

import pytest

from swarm.errors import NotAuthenticated, NotReachable
from swarm.home import admin_password, find_home, gateway_url
from tests.unit.swarm.conftest import Hold


def write_state(home: Path, text: str) -> None:
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "state.json").write_text(text)


def state(phase: str = "ready", gateway: object = "http://127.0.0.1:8000") -> str:
    return json.dumps({"phase": phase, "addresses": {"gateway": gateway}, "more": 1})


def test_the_home_is_the_one_given_or_that_of_the_environment_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWARM_HOME", "~/elsewhere")
    assert find_home("/srv/x") == Path("/srv/x")
    assert find_home() == Path("~/elsewhere").expanduser()
    monkeypatch.delenv("SWARM_HOME")
    assert find_home() == Path("~/.swarm").expanduser()


def test_the_address_of_a_ready_swarm_is_read(tmp_path: Path, hold: Hold) -> None:
    hold(tmp_path)
    write_state(tmp_path, state())
    assert gateway_url(tmp_path) == "http://127.0.0.1:8000"


def test_a_home_may_be_named_by_a_link(tmp_path: Path, hold: Hold) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home)
    hold(home)
    write_state(home, state())
    assert gateway_url(link) == "http://127.0.0.1:8000"


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_swarm_that_was_killed_is_none(tmp_path: Path, hold: Hold, *, has_begun: bool) -> None:
    if has_begun:
        hold(tmp_path)()
    write_state(tmp_path, state())
    with pytest.raises(NotReachable, match="the last one was killed") as killed:
        gateway_url(tmp_path)
    assert "swarm up" in killed.value.hint


def test_who_looks_for_the_swarm_keeps_nobody_from_the_home(tmp_path: Path, hold: Hold) -> None:
    hold(tmp_path)()
    write_state(tmp_path, state())
    with pytest.raises(NotReachable):
        gateway_url(tmp_path)
    hold(tmp_path)


def test_a_lock_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    write_state(tmp_path, state())
    (tmp_path / "run" / "lock").symlink_to("lock")
    with pytest.raises(NotReachable, match="cannot be read"):
        gateway_url(tmp_path)


def test_no_state_is_no_swarm(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="No swarm is running") as nothing:
        gateway_url(tmp_path)
    assert "swarm up" in nothing.value.hint


@pytest.mark.parametrize("phase", ["starting", "stopping", "stopped", "failed"])
def test_a_swarm_that_is_not_ready_is_said_not_to_be(tmp_path: Path, phase: str) -> None:
    write_state(tmp_path, state(phase))
    with pytest.raises(NotReachable, match=phase):
        gateway_url(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"phase": "ready"}', state(gateway=""), state(gateway=7)]
)
def test_a_damaged_state_is_no_swarm(tmp_path: Path, text: str) -> None:
    write_state(tmp_path, text)
    with pytest.raises(NotReachable):
        gateway_url(tmp_path)


def test_the_password_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    with pytest.raises(NotAuthenticated, match=r"admin\.password"):
        admin_password(tmp_path)
    (tmp_path / "keys" / "admin.password").write_text(" \n")
    with pytest.raises(NotAuthenticated, match="no password"):
        admin_password(tmp_path)
    (tmp_path / "keys" / "admin.password").write_text("sesame\n")
    assert admin_password(tmp_path) == "sesame"
