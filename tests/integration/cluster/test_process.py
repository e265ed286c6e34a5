import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from cluster.errors import NotAnswering, PartFailed
from cluster.process import Child, ChildSpec, RunAs
from tests.integration.cluster.conftest import until


def _spec(tmp_path: Path, program: str, **changes: object) -> ChildSpec:
    fields: dict[str, object] = {
        "name": "server",
        "command": [sys.executable, "-c", program],
        "environment": dict.fromkeys(("MARK",), "1"),
        "folder": tmp_path,
        "log": tmp_path / "server.log",
    }
    return ChildSpec(**{**fields, **changes})  # type: ignore[arg-type]


async def _never() -> None:
    raise NotAnswering


async def test_a_child_that_ends_while_starting_is_reported_with_its_log(tmp_path: Path) -> None:
    child = await Child.start(_spec(tmp_path, "import sys; sys.exit('no licence')"))
    with pytest.raises(PartFailed, match=r"(?s)ended with status 1 while starting.*no licence"):
        await child.wait_ready(_never, deadline_s=10)


async def test_a_child_that_never_answers_is_given_up(tmp_path: Path) -> None:
    child = await Child.start(_spec(tmp_path, "import time; time.sleep(60)"))
    with pytest.raises(PartFailed, match=r"not ready within 0.3 s"):
        await child.wait_ready(_never, deadline_s=0.3)
    await child.stop(grace_s=5)


async def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    program = (
        "import signal, time, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('ready').touch(); time.sleep(60)"
    )
    child = await Child.start(_spec(tmp_path, program))
    await until((tmp_path / "ready").exists, "the child did not start")
    await child.stop(grace_s=0.2)
    assert await child.wait() == -signal.SIGKILL


async def test_stopping_a_child_ends_its_group(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, pathlib, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('draft').write_text(str(p.pid)); pathlib.Path('draft').rename('pid')\n"
        "time.sleep(60)"
    )
    child = await Child.start(_spec(tmp_path, program))
    await until((tmp_path / "pid").exists, "the child did not start")
    pid = int((tmp_path / "pid").read_text())
    await child.stop(grace_s=5)
    await until(lambda: not _lives(pid), "the grandchild outlived its group")


async def test_a_child_gets_its_input_and_its_environment_only(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.stdin.read(), sorted(os.environ))"
    child = await Child.start(_spec(tmp_path, program, input=b"hello"))
    await child.succeed(deadline_s=10)
    log = (tmp_path / "server.log").read_text()
    assert "hello ['LC_CTYPE', 'MARK']" in log or "hello ['MARK']" in log


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = await Child.start(_spec(tmp_path, "", command=["/nonexistent/server"]))
    with pytest.raises(PartFailed, match="/nonexistent/server: No such file"):
        await child.succeed(deadline_s=10)


async def test_a_log_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match="server cannot be started"):
        await Child.start(_spec(tmp_path, "", log=tmp_path / "missing" / "log"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
async def test_root_becomes_someone_else_who_can_still_enter_a_private_home(
    tmp_path: Path,
) -> None:
    await asyncio.to_thread(tmp_path.chmod, 0o700)
    program = "import os; print(os.geteuid(), os.getgroups(), os.listdir('.'))"
    spec = _spec(tmp_path, program, run_as=RunAs(user=65534, group=65534))
    child = await Child.start(spec)
    await child.succeed(deadline_s=10)
    assert (tmp_path / "server.log").read_text().startswith("65534 [] ['server.log']")


@pytest.mark.parametrize("run_as", [None, RunAs(user=65534, group=65534)])
async def test_a_child_dies_with_the_process_that_started_it(
    tmp_path: Path, run_as: RunAs | None
) -> None:
    if run_as is not None and os.geteuid() != 0:
        pytest.skip("only root can become someone else")
    spec = _spec(tmp_path, "import time; time.sleep(60)", run_as=run_as)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT.format(spec=spec)),
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    async with asyncio.timeout(20):
        pid = int(await parent.stdout.readline())
    assert _lives(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not _lives(pid), "the child outlived its parent")


_PARENT = """
import asyncio, sys
from pathlib import PosixPath
from signal import Signals
from cluster.process import Child, ChildSpec, RunAs
async def main():
    child = await Child.start(ChildSpec(
        name="server", command=[sys.executable, "-c", "import time; time.sleep(60)"],
        environment={{}}, folder={spec.folder!r}, log={spec.log!r}, run_as={spec.run_as!r},
    ))
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""


def _lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status
