"""Finding the swarm on this machine."""

import json
import os
from pathlib import Path

import psutil
import pytest

from swarm.errors import NotAuthenticated, NotReachable
from swarm.home import admin_password, find_home, gateway_url
from tests.unit.swarm.conftest import Start


def write_state(home: Path, text: str) -> None:
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "state.json").write_text(text)


def state(
    phase: str = "ready",
    gateway: object = "http://127.0.0.1:8000",
    *,
    guard: int = 1,
    supervisor: int = 1,
    started: float = 1.0,
) -> str:
    document = {
        "phase": phase,
        "guard_pid": guard,
        "supervisor_pid": supervisor,
        "supervisor_started": started,
        "addresses": {"gateway": gateway},
        "more": 1,
    }
    return json.dumps(document)


def test_the_home_is_the_one_given_or_that_of_the_environment_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWARM_HOME", "~/elsewhere")
    assert find_home("/srv/x") == Path("/srv/x")
    assert find_home() == Path("~/elsewhere").expanduser()
    monkeypatch.delenv("SWARM_HOME")
    assert find_home() == Path("~/.swarm").expanduser()


def test_the_address_of_a_ready_swarm_is_read(tmp_path: Path, start: Start) -> None:
    write_state(tmp_path, state(guard=start(tmp_path).pid, supervisor=start(tmp_path).pid))
    assert gateway_url(tmp_path) == "http://127.0.0.1:8000"


def test_a_home_may_be_named_by_a_link(tmp_path: Path, start: Start) -> None:
    home, link = tmp_path / "home", tmp_path / "link"
    home.mkdir()
    link.symlink_to(home)
    write_state(home, state(guard=start(home).pid))
    assert gateway_url(link) == "http://127.0.0.1:8000"


def test_a_swarm_whose_supervisor_or_guard_was_killed_is_still_there(
    tmp_path: Path, start: Start
) -> None:
    write_state(tmp_path, state(guard=start(tmp_path).pid, supervisor=start().pid))
    assert gateway_url(tmp_path) == "http://127.0.0.1:8000"
    write_state(tmp_path, state(guard=start().pid, supervisor=start(tmp_path).pid))
    assert gateway_url(tmp_path) == "http://127.0.0.1:8000"


def test_a_supervisor_whose_environment_cannot_be_read_is_known_by_its_start(
    tmp_path: Path, start: Start
) -> None:
    supervisor = start().pid
    began = psutil.Process(supervisor).create_time()
    write_state(tmp_path, state(supervisor=supervisor, started=began))
    assert gateway_url(tmp_path) == "http://127.0.0.1:8000"


def test_a_swarm_that_was_killed_is_none_though_others_have_its_process_ids(
    tmp_path: Path, start: Start
) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = start(tmp_path / "other").pid
    write_state(tmp_path, state(guard=start().pid, supervisor=elsewhere))
    with pytest.raises(NotReachable, match="the last one was killed") as killed:
        gateway_url(tmp_path)
    assert "swarm up" in killed.value.hint


def test_processes_that_nobody_has_waited_for_are_dead(tmp_path: Path, start: Start) -> None:
    guard = start(tmp_path)
    began = psutil.Process(guard.pid).create_time()
    guard.kill()
    os.waitid(os.P_PID, guard.pid, os.WEXITED | os.WNOWAIT)
    write_state(tmp_path, state(guard=guard.pid, supervisor=guard.pid, started=began))
    with pytest.raises(NotReachable, match="the last one was killed"):
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
