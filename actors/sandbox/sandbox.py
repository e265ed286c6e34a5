"""The agent's side of the sandbox: starts it, hears its output, and sees that it is gone."""

import asyncio
import os
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

from actors.errors import SandboxFailed, SandboxUnavailable, UnusableFiles
from actors.sandbox.launch import LENGTH_BYTES
from actors.sandbox.outcome import Limits, Outcome
from actors.sandbox.request import Report, Request

NOBODY: Final = 65_534
_TEMPORARY: Final = "/tmp"  # nosec B108 # noqa: S108 - that of the sandbox
MAX_SOURCE_BYTES: Final = 1024 * 1024
MAX_SOURCES: Final = 64
_GRACE_S: Final = 10.0
"""For building the sandbox and for taking it down; what is not gone by then is killed."""
_FAREWELL_S: Final = 5.0
_CHUNK_BYTES: Final = 64 * 1024
_PACKAGES: Final = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
"""All that a program finds there besides the standard library."""
_ROOT: Final = Path(__file__).resolve().parents[2]


class Sandbox:
    """Runs programs of Python, each in a sandbox of its own.

    A program sees the interpreter, the standard library, pytest and the files that it is given,
    in a folder that is kept in memory and goes with it. It has no network and no rights, cannot
    see another process, and is ended at its limits. Where the kernel does not give all of
    that, nothing is run.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    async def run(self, files: Mapping[str, str], *arguments: str) -> Outcome:
        """Run the interpreter with the arguments in a folder that holds the files.

        Raises:
            UnusableFiles: a path leads out of the folder, or it is too much.
            SandboxUnavailable: this machine cannot contain a program.
            SandboxFailed: it was ended from outside.
        """
        request = _request(check_files(files), arguments, self._limits)
        try:
            return await _run(request)
        except OSError as error:
            raise SandboxFailed(f"no process could be started: {error}") from error

    async def run_tests(self, files: Mapping[str, str]) -> Outcome:
        """Run pytest over the files.

        Raises:
            UnusableFiles, SandboxUnavailable, SandboxFailed: as `run`.
        """
        return await self.run(files, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no")


def check_files(files: Mapping[str, str]) -> dict[str, str]:
    """The files, each of which stays in the folder that it is written to.

    Raises:
        UnusableFiles: one does not, or it is too much.
    """
    if len(files) > MAX_SOURCES:
        raise UnusableFiles(f"{len(files)} files are more than {MAX_SOURCES}")
    total = 0
    for name, text in files.items():
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable():
            raise UnusableFiles(f"{name[:80]!r} is not a path within the folder")
        try:
            total += len(text.encode())
        except UnicodeEncodeError as error:
            raise UnusableFiles(f"{name[:80]!r} cannot be written as UTF-8") from error
    if total > MAX_SOURCE_BYTES:
        raise UnusableFiles(f"{total} bytes are more than {MAX_SOURCE_BYTES}")
    return dict(files)


def _request(files: dict[str, str], arguments: tuple[str, ...], limits: Limits) -> Request:
    interpreter = "/python/bin/python"
    standard = Path(sysconfig.get_path("stdlib"))
    shown = {
        interpreter: os.path.realpath(sys.executable),
        f"/python/{sys.platlibdir}/{standard.name}": str(standard),
    }
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = str(sysconfig.get_config_var("INSTSONAME"))
        shown[f"/python/lib/{library}"] = f"{sysconfig.get_config_var('LIBDIR')}/{library}"
    for name in _PACKAGES:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise SandboxUnavailable(f"the package {name} is not installed")
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        shown[f"/packages/{source.name}"] = str(source)
    return Request(
        arguments=(interpreter, "-s", *arguments),
        environment={
            "HOME": "/work",
            "LANG": "C.UTF-8",
            "LD_LIBRARY_PATH": "/python/lib",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": "/packages",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TMPDIR": _TEMPORARY,
        },
        files=files,
        shown=shown,
        hidden=(f"/python/{sys.platlibdir}/{standard.name}/site-packages",),
        uid=NOBODY,
        limits=limits,
    )


@dataclass(slots=True, kw_only=True)
class _Cut:
    """Keeps the beginning and the end of an output."""

    limit_bytes: int
    total_bytes: int = 0
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)

    def add(self, part: bytes) -> None:
        """Take in what comes next."""
        self.total_bytes += len(part)
        room = max(0, self.limit_bytes // 2 - len(self.head))
        self.head += part[:room]
        self.tail += part[room:]
        del self.tail[: -(self.limit_bytes // 2)]

    @property
    def text(self) -> str:
        """What is kept, with a line that says what is not."""
        missing = self.total_bytes - len(self.head) - len(self.tail)
        between = f"\n... {missing} bytes left out ...\n".encode() if missing else b""
        return (self.head + between + self.tail).decode(errors="replace")


async def _run(request: Request) -> Outcome:
    limits = request.limits
    readable, writable = os.pipe()
    try:
        try:
            process = await _start(writable)
        finally:
            os.close(writable)
        out, err = _Cut(limit_bytes=limits.output_bytes), _Cut(limit_bytes=limits.output_bytes)
        try:
            async with asyncio.timeout(limits.wall_s + _GRACE_S):
                await _converse(process, request, out, err)
        except TimeoutError as error:
            raise SandboxFailed("the sandbox did not end in time, and was killed") from error
        finally:
            await asyncio.shield(_end(process))
        told = os.read(readable, _CHUNK_BYTES)
    finally:
        os.close(readable)
    flooded = max(out.total_bytes, err.total_bytes) > limits.flood_bytes
    return _outcome(told, out.text, err.text, flooded=flooded)


async def _start(report: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-S", "-P", "-m", "actors.sandbox.launch", str(report)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(report,),
        env={"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        start_new_session=True,
    )


async def _converse(
    process: asyncio.subprocess.Process, request: Request, out: "_Cut", err: "_Cut"
) -> None:
    """Say what to run, and hear all that is said until it has ended."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise SandboxFailed("the process has no pipes")

    async def hear(stream: asyncio.StreamReader, cut: _Cut) -> None:
        while part := await stream.read(_CHUNK_BYTES):
            cut.add(part)
            if cut.total_bytes > request.limits.flood_bytes:
                stdin.close()  # the lifeline: it ends

    async def ask() -> None:
        data = request.to_json()
        stdin.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        with suppress(ConnectionError):  # it ended already, and its report says why
            await stdin.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(hear(stdout, out))
        group.create_task(hear(stderr, err))
        group.create_task(ask())
        group.create_task(process.wait())


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let go of the lifeline, and see that the process ends; with it all else has ended."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _outcome(told: bytes, stdout: str, stderr: str, *, flooded: bool) -> Outcome:
    if not told:
        raise SandboxFailed(f"the sandbox was ended from outside: {stderr[-200:]}")
    report = Report.from_json(told)
    if report.refused:
        raise SandboxUnavailable(f"this machine cannot contain a program: {report.refused}")
    return Outcome(
        ending="output" if flooded else report.ending,
        exit_status=report.exit_status,
        stdout=stdout,
        stderr=stderr,
        wall_s=report.wall_s,
        cpu_s=report.cpu_s,
        memory_bytes=report.memory_bytes,
        files=report.files,
        left_behind=report.left_behind,
    )
