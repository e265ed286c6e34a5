"""Programs that attack: each is contained, what it did is reported, and nothing of it is left."""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.errors import SandboxUnavailable, UnusableFiles
from actors.sandbox import launch, system
from actors.sandbox.outcome import MIB, Limits, Outcome
from actors.sandbox.sandbox import Sandbox

SYSTEM_TEXT = Path(system.__file__).read_text()
LIMITS = Limits(wall_s=30.0, cpu_s=10, memory_bytes=192 * MIB, processes=24)


async def run(program: str, limits: Limits = LIMITS) -> Outcome:
    return await Sandbox(limits).run({"attack.py": program}, "attack.py")


def processes_of_other_namespaces() -> set[int]:
    """Processes that see other ones than this does."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                namespace = (entry / "ns/pid_for_children").readlink()
            except OSError:
                continue  # it ended, or is somebody else's
            if namespace != Path("/proc/self/ns/pid_for_children").readlink():
                found.add(int(entry.name))
    return found


@pytest.fixture(scope="module", autouse=True)
async def a_process_was_started_before() -> None:
    """What the event loop opens for its first process it keeps open."""
    await run("")


@pytest.fixture(autouse=True)
def nothing_is_left(a_process_was_started_before: None) -> Iterator[None]:
    """No process, mount, open file or folder, whatever the test did."""

    def seen() -> tuple[set[int], str, Counter[str], set[str]]:
        mounts = Path("/proc/self/mountinfo").read_text()
        return (
            processes_of_other_namespaces(),
            mounts,
            open_files(),
            {each.name for each in Path("/").iterdir()},
        )

    before = seen()
    yield
    after = seen()
    assert after[0] <= before[0]
    assert after[1:] == before[1:]


def open_files() -> Counter[str]:
    """What is open, by kind, but for sockets: servers of other tests connect when they like.

    A process that was not let go of leaves pipes as well.
    """
    kinds: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            kinds[str(descriptor.readlink()).partition(":[")[0]] += 1
    del kinds["socket"]
    return kinds


async def test_a_fork_bomb_is_stopped_at_the_number_of_processes() -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"

    outcome = await run(bomb)

    assert outcome.ending == "processes"
    assert outcome.exit_status is None


async def test_threads_count_as_processes() -> None:
    bomb = (
        "import threading\n"
        "wait = threading.Event()\n"
        "while True:\n"
        "    try: threading.Thread(target=wait.wait).start()\n"
        "    except RuntimeError: pass\n"
    )

    outcome = await run(bomb)

    assert outcome.ending == "processes"


async def test_there_is_no_network_not_even_the_machine_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = (
            "import socket\n"
            f"for address in (('127.0.0.1', {port}), ('192.0.2.1', 80)):\n"
            "    try: socket.create_connection(address, timeout=1)\n"
            "    except OSError as error: print(type(error).__name__, error.errno)\n"
            "    else: print('reached', address)\n"
            "try: socket.getaddrinfo('example.com', 80)\n"
            "except OSError as error: print('no names')\n"
            "try: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)\n"
            "except OSError as error: print('no host')\n"
        )

        outcome = await run(program)

    assert outcome.exit_status == 0, outcome
    assert "reached" not in outcome.stdout
    assert "no names\nno host\n" in outcome.stdout


async def test_nothing_outside_can_be_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    places = [
        str(secret),
        str(Path(__file__)),
        str(Path.home()),
        *("/etc/passwd", "/root", "/home", "/proc/1/environ", "/proc/self/environ", "/sys"),
        *("/var", "/run", "/dev/mem", "/dev/sda", "/usr/bin"),
    ]
    program = (
        "import os\n"
        f"for place in {places}:\n"
        "    try: print('read', place, os.listdir(place) if os.path.isdir(place) else "
        "open(place).read())\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )

    outcome = await run(program)

    assert outcome.stdout == "FileNotFoundError\n" * len(places), outcome


async def test_nothing_outside_can_be_written() -> None:
    program = (
        "import os\n"
        "for place in ('/x', '/etc/x', '/python/x', '/packages/pytest/x', '/usr/lib/x', "
        "'/dev/x', '/python/bin/python'):\n"
        "    try: os.makedirs(os.path.dirname(place), exist_ok=True); open(place, 'w')\n"
        "    except OSError as error: print(error.errno)\n"
        "    else: print('wrote', place)\n"
    )

    outcome = await run(program)

    assert outcome.exit_status == 0
    assert "wrote" not in outcome.stdout
    assert len(outcome.stdout.split()) == 7


async def test_a_link_leads_nowhere() -> None:
    program = (
        "import os\n"
        "os.symlink('/etc/passwd', 'link')\n"
        "os.symlink('/proc/1/root/etc/passwd', 'other')\n"
        "for name in ('link', 'other', '../../../etc/passwd'):\n"
        "    try: print('read', open(name).read())\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )

    outcome = await run(program)

    assert outcome.stdout == "FileNotFoundError\n" * 3


async def test_a_file_of_1_gb_is_cut_off() -> None:
    program = (
        "with open('large', 'wb') as file:\n"
        "    for _ in range(1024): file.write(bytes(1024 * 1024))\n"
    )

    outcome = await run(program)

    assert outcome.ending == "file_size"
    assert outcome.exit_status == 1
    assert "File too large" in outcome.stderr


async def test_many_files_of_1_gb_fill_a_disk_of_their_own() -> None:
    program = (
        "for number in range(1024):\n"
        "    with open(f'{number}', 'wb') as file: file.write(bytes(1024 * 1024))\n"
    )

    outcome = await run(program)

    assert outcome.ending == "disk"


async def test_many_empty_files_are_too_many() -> None:
    outcome = await run("for number in range(10**6): open(f'{number}', 'wb').close()")

    assert outcome.ending == "disk"


async def test_processor_time_is_limited_for_who_ignores_the_signal() -> None:
    program = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"

    assert (await run(program, Limits(wall_s=80, cpu_s=1))).ending == "cpu"


@pytest.mark.parametrize("loop", ["while True: pass", "import time\ntime.sleep(1000)"])
async def test_an_endless_loop_ends_in_time(loop: str) -> None:
    outcome = await run(loop, Limits(wall_s=0.5))

    assert outcome.ending == "timeout"
    assert 0.5 <= outcome.wall_s < 10


async def test_a_signal_that_asks_to_end_cannot_be_ignored() -> None:
    program = (
        "import signal\n"
        "for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except OSError: pass\n"
        "while True: pass\n"
    )

    assert (await run(program, Limits(wall_s=0.5))).ending == "timeout"


async def test_processor_time_is_limited() -> None:
    outcome = await run("while True: pass", Limits(wall_s=80, cpu_s=1))

    assert outcome.ending == "cpu"


@pytest.mark.parametrize(
    "program",
    [
        "kept = []\nwhile True: kept.append(b'x' * 10**7)",
        (
            "import os, time\n"
            "for _ in range(8):\n"
            "    if os.fork() == 0: kept = b'x' * (64 * 1024 * 1024); time.sleep(60)\n"
            "time.sleep(60)"
        ),
        (
            "import mmap, time\n"
            "kept = mmap.mmap(-1, 600 * 1024 * 1024)\n"
            "for _ in range(600): kept.write(b'x' * 1024 * 1024)\n"
            "time.sleep(60)"
        ),
    ],
)
async def test_memory_is_limited_for_all_processes_together(program: str) -> None:
    outcome = await run(program)

    assert outcome.ending == "memory"
    assert outcome.memory_bytes > LIMITS.memory_bytes


async def test_memory_that_nobody_would_count_cannot_be_had() -> None:
    program = (
        "import os\n"
        "try: os.memfd_create('hidden')\n"
        "except OSError as error: print(error.errno)\n"
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.shmget(0, 4096, 0o1600), libc.msgget(0, 0o1600))\n"
    )

    assert (await run(program)).stdout == "1\n-1 -1\n"


async def test_output_without_end_is_ended() -> None:
    outcome = await run("while True: print('x' * 1000)")

    assert outcome.ending == "output"
    assert len(outcome.stdout) < 2 * LIMITS.output_bytes


async def test_long_output_keeps_its_beginning_and_its_end() -> None:
    outcome = await run("print('first'); print('x' * 100_000); print('last')")

    assert outcome.stdout.startswith("first\n")
    assert outcome.stdout.endswith("x\nlast\n")
    assert "bytes left out" in outcome.stdout


async def test_no_other_process_can_be_seen_or_signalled() -> None:
    program = (
        "import os, signal\n"
        "print(os.getpid() < 10, os.getppid())\n"
        f"for process in (1, os.getppid(), {os.getpid()}, {threading.get_native_id()}):\n"
        "    try: os.kill(process, signal.SIGKILL)\n"
        "    except OSError as error: print(type(error).__name__)\n"
        "os.kill(-1, signal.SIGTERM)\n"
    )

    outcome = await run(program)

    first, *rest = outcome.stdout.splitlines()
    assert first == "True 1"
    assert set(rest) <= {"ProcessLookupError", "PermissionError"}, outcome


async def test_a_daemon_does_not_outlive_its_program() -> None:
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        while True: time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('gone')\n"
    )

    outcome = await run(program)

    assert outcome.succeeded
    assert outcome.left_behind == 1


async def test_a_tree_that_is_too_deep_to_be_named_and_files_that_come_and_go_are_no_matter() -> (
    None
):
    program = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    while True:\n"
        "        for number in range(200): open(f'{number}', 'w').close()\n"
        "        for number in range(200): os.unlink(f'{number}')\n"
        "for _ in range(40):\n"
        "    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
        "    open('f' * 250, 'w').close()\n"
    )

    outcome = await run(program)

    assert outcome.succeeded, outcome
    assert outcome.left_behind == 1


async def test_no_right_is_left_and_none_can_be_gained() -> None:
    program = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def refused(result): return result, os.strerror(ctypes.get_errno())\n"
        "print(refused(libc.unshare(0x10000000)))\n"
        "print(refused(libc.mount(b'tmpfs', b'/work', b'tmpfs', 0, None)))\n"
        "print(refused(libc.ptrace(0, 0, 0, 0)))\n"
        "clone = {'x86_64': 56, 'aarch64': 220}[os.uname().machine]\n"
        "print(refused(libc.syscall(clone, 0x10000000 | 17, 0, 0, 0, 0)))\n"
        "print(libc.setuid(0), os.getuid())\n"
        "print(libc.prctl(39, 0, 0, 0, 0), os.getgroups() in ([], [65534]))\n"
        "print(os.uname().nodename)\n"
    )

    outcome = await run(program)

    no = "(-1, 'Operation not permitted')\n"
    assert outcome.stdout == no * 4 + "-1 65534\n1 True\nsandbox\n", outcome


async def test_the_environment_holds_nothing_of_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_SECRET", "the secret")

    outcome = await run("import os\nprint(sorted(os.environ), os.listdir('/scratch'))")

    assert "SECRET" not in outcome.stdout
    assert outcome.exit_status == 0


async def test_a_descriptor_of_the_agents_is_not_open_inside() -> None:
    outcome = await run(
        "import os\n"
        "def is_open(number):\n"
        "    try: os.fstat(number)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "print([number for number in range(128) if is_open(number)])"
    )

    assert outcome.stdout == "[0, 1, 2]\n"


async def test_a_program_without_fault_is_run() -> None:
    outcome = await run("import json, sqlite3, ssl, multiprocessing; print(2 + 2)")

    assert outcome.succeeded
    assert outcome.stdout == "4\n"
    assert outcome.files == 1


async def test_tests_are_run_and_their_failures_are_told() -> None:
    files = {
        "added.py": "def add(a, b): return a - b\n",
        "test_added.py": "from added import add\ndef test_add(tmp_path): assert add(1, 1) == 2\n",
    }

    outcome = await Sandbox(LIMITS).run_tests(files)

    assert outcome.exit_status == 1
    assert "assert 0 == 2" in outcome.stdout
    assert "1 failed" in outcome.stdout
    files["added.py"] = "def add(a, b): return a + b\n"
    assert (await Sandbox(LIMITS).run_tests(files)).succeeded


async def test_a_program_ends_when_nobody_waits_for_it_any_more() -> None:
    running = asyncio.create_task(run("while True: pass", Limits(wall_s=60, cpu_s=60)))
    before = processes_of_other_namespaces()
    async with asyncio.timeout(20):
        while not processes_of_other_namespaces() - before:
            await asyncio.to_thread(Path("/proc").stat)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_several_run_beside_each_other() -> None:
    outcomes = await asyncio.gather(*(run(f"print({number})") for number in range(4)))

    assert [outcome.stdout for outcome in outcomes] == ["0\n", "1\n", "2\n", "3\n"]


async def test_where_the_kernel_refuses_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = tmp_path / "actors"
    (tree / "sandbox").mkdir(parents=True)
    for file in Path(launch.__file__).parent.glob("*.py"):
        (tree / "sandbox" / file.name).write_text(file.read_text())
    (tree / "__init__.py").touch()
    text = SYSTEM_TEXT
    refused = 'def unshare(flags: int) -> None:\n    raise PermissionError(1, "unshare: no")\n'
    before, _, after = text.partition("def unshare(flags: int) -> None:\n")
    (tree / "sandbox/system.py").write_text(before + refused + after)
    monkeypatch.setattr("actors.sandbox.sandbox._ROOT", tmp_path)

    with pytest.raises(SandboxUnavailable, match="unshare: no"):
        await run("print('was run')")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "", "a\nb"])
async def test_a_file_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UnusableFiles):
        await Sandbox(LIMITS).run({name: ""}, "x.py")
