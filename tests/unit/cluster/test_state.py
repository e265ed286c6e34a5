import json
import os
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from cluster.errors import AlreadyRunning, HomeInUse, HomeNotUsable, NotRunning
from cluster.home import Home, open_home
from cluster.state import (
    Failure,
    Phase,
    Progress,
    ProgressReader,
    ProgressWriter,
    PublicAddresses,
    State,
    load,
    load_running,
    lock,
    locked,
    progress_file,
    save,
    state_file,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path)


def _state(phase: Phase = Phase.READY, *, alive: bool = True, failure: str = "") -> State:
    me = psutil.Process()
    return State(
        phase=phase,
        guard_pid=os.getppid(),
        supervisor_pid=me.pid,
        supervisor_started=me.create_time() - (0 if alive else 1000),
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="scripted",
        addresses=PublicAddresses(gateway="http://127.0.0.1:8000"),
        failure=Failure(code="part_failed", message=failure) if failure else None,
    )


def test_the_state_comes_back_as_it_was_saved_and_is_private(home: Home) -> None:
    save(home, _state())
    assert load(home) == _state()
    assert state_file(home).stat().st_mode & 0o777 == 0o600


def test_a_running_swarm_is_found(home: Home) -> None:
    save(home, _state())
    assert load_running(home).phase is Phase.READY


def test_a_home_without_a_swarm_says_so(home: Home) -> None:
    with pytest.raises(NotRunning, match="No swarm is running"):
        load_running(home)


def test_a_reused_process_id_is_not_taken_for_the_supervisor(home: Home) -> None:
    save(home, _state(alive=False))
    with pytest.raises(NotRunning, match="the last one was killed"):
        load_running(home)


def test_a_failed_start_tells_its_reason(home: Home) -> None:
    save(home, _state(Phase.FAILED, alive=False, failure="nats had no port"))
    with pytest.raises(NotRunning, match="nats had no port"):
        load_running(home)


def test_a_damaged_state_is_an_error_and_not_an_absent_swarm(home: Home) -> None:
    state_file(home).write_text('{"phase": "rea')
    with pytest.raises(HomeNotUsable, match="Cannot read"):
        load(home)


def test_a_home_has_one_owner_at_a_time(home: Home) -> None:
    descriptor = lock(home)
    assert locked(home)
    with pytest.raises(HomeInUse, match="Another command works in"):
        lock(home)
    save(home, _state())
    with pytest.raises(AlreadyRunning, match="A swarm is already running in"):
        lock(home)
    os.close(descriptor)
    assert not locked(home)


def test_progress_is_read_line_by_line_as_it_grows(home: Home) -> None:
    seen: list[Progress] = []
    writer, reader = ProgressWriter(home), ProgressReader(home)
    reader.read(seen.append)
    writer.clear()
    writer.write(Progress(part="nats", phase="starting"))
    reader.read(seen.append)
    with progress_file(home).open("a") as file:
        file.write('{"part":"nats","ph')  # half a line is left for the next time
    reader.read(seen.append)
    assert [(p.part, p.phase) for p in seen] == [("nats", "starting")]
    with progress_file(home).open("a") as file:
        file.write('ase":"ready","seconds":0.5}\n')
    reader.read(seen.append)
    reader.read(seen.append)
    assert [p.seconds for p in seen] == [0.0, 0.5]


def test_progress_for_which_there_is_no_room_is_lost_and_harms_nobody(home: Home) -> None:
    progress_file(home).symlink_to("/dev/full")
    ProgressWriter(home).write(Progress(part="nats", phase="starting"))


def test_a_line_that_a_full_disk_cut_off_is_passed_over(home: Home) -> None:
    seen: list[Progress] = []
    writer, reader = ProgressWriter(home), ProgressReader(home)
    writer.write(Progress(part="nats", phase="starting"))
    with progress_file(home).open("ab") as file:
        file.write('{"part":"nats","phase":"failed","detail":"é'.encode()[:-1])
    for phase in ("stopping", "stopped"):
        writer.write(Progress(part="nats", phase=phase))
    reader.read(seen.append)
    assert [p.phase for p in seen] == ["starting", "stopped"]


def test_a_reader_from_now_skips_what_was_written_before(home: Home) -> None:
    seen: list[Progress] = []
    writer = ProgressWriter(home)
    writer.write(Progress(part="nats", phase="ready"))
    reader = ProgressReader(home, from_now=True)
    writer.write(Progress(part="nats", phase="stopped"))
    reader.read(seen.append)
    assert [p.phase for p in seen] == ["stopped"]


def test_a_state_of_an_earlier_version_has_no_workers(home: Home) -> None:
    save(home, _state().model_copy(update={"workers": ("reviewer",)}))
    state = load(home)
    assert state is not None
    assert state.workers == ("reviewer",)
    document = json.loads(state_file(home).read_text())
    del document["workers"]
    state_file(home).write_text(json.dumps(document))
    assert load(home) == _state()
