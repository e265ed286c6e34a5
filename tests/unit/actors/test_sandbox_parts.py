"""The parts of the sandbox that decide something without a kernel."""

import errno
import struct
from collections.abc import Iterator

import pytest

from actors.errors import UnusableFiles
from actors.sandbox.outcome import Limits
from actors.sandbox.request import Report, Request
from actors.sandbox.sandbox import MAX_SOURCE_BYTES, MAX_SOURCES, check_files
from actors.sandbox.seccomp import REFUSED, seccomp_filter
from actors.sandbox.warden import Census

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = sorted(AUDIT)
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET = {"x86_64": 41, "aarch64": 198}
NEW_USER, SIGCHLD, THREAD = 0x10000000, 17, 0x3D0F00


def verdict(machine: str, number: int, argument: int = 0, audit: int | None = None) -> int:
    """What the kernel would answer: the filter, interpreted."""
    data = {0: number, 4: AUDIT[machine] if audit is None else audit, 16: argument}
    lines = list(struct.iter_unpack("=HBBI", seccomp_filter(machine)))
    place = value = 0
    while True:
        code, yes, no, operand = lines[place]
        place += 1
        if code == 0x20:
            value = data[operand]
        elif code == 0x06:
            return int(operand)
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}
            place += yes if holds[code] else no


def refused_calls() -> Iterator[tuple[str, int]]:
    for machine, numbers in REFUSED.items():
        yield from ((machine, number) for number in numbers.values())


@pytest.mark.parametrize(("machine", "number"), list(refused_calls()))
def test_a_call_of_the_table_is_refused(machine: str, number: int) -> None:
    assert verdict(machine, number) == ERROR | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    known = {*REFUSED[machine].values(), 435, SOCKET[machine], SOCKET[machine] + 1, 53}
    for number in set(range(440)) - known:
        assert verdict(machine, number) == ALLOW, number


@pytest.mark.parametrize("machine", MACHINES)
def test_processes_and_threads_may_be_made_but_no_namespaces(machine: str) -> None:
    assert verdict(machine, CLONE[machine], SIGCHLD) == ALLOW
    assert verdict(machine, CLONE[machine], THREAD) == ALLOW
    assert verdict(machine, CLONE[machine], NEW_USER | SIGCHLD) == ERROR | errno.EPERM
    assert verdict(machine, 435) == ERROR | errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "allowed"),
    [(1, True), (2, True), (10, True), (16, False), (17, False), (38, False), (40, False)],
)
def test_sockets_are_of_families_that_lead_nowhere(
    machine: str, family: int, *, allowed: bool
) -> None:
    expected = ALLOW if allowed else ERROR | errno.EAFNOSUPPORT
    assert verdict(machine, SOCKET[machine], family) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_another_interface_of_the_kernel_is_not_there(machine: str) -> None:
    assert verdict(machine, 1, audit=0x40000003) == KILL
    assert verdict(machine, 0x40000000 + 1) == ERROR | errno.EPERM


def test_a_processor_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError):
        seccomp_filter("riscv64")


def test_what_is_said_to_the_sandbox_and_back_is_understood() -> None:
    request = Request(
        arguments=("python", "x.py"),
        environment={"HOME": "/work"},
        files={"x.py": "print('\u00e4')"},
        shown={"/python": "/usr"},
        hidden=("/python/x",),
        uid=65_534,
        limits=Limits(wall_s=1.5),
    )
    assert Request.from_json(request.to_json()) == request
    report = Report(ending="disk", exit_status=1, left_behind=2)
    assert Report.from_json(report.to_json()) == report


def test_the_first_limit_that_is_reached_is_named() -> None:
    limits = Limits(processes=4, memory_bytes=100)
    fine = Census(tasks=4, memory_bytes=100, disk_is_full=False)
    assert fine.excess(limits) is None
    assert Census(tasks=5, memory_bytes=0, disk_is_full=True).excess(limits) == "processes"
    assert Census(tasks=1, memory_bytes=101, disk_is_full=True).excess(limits) == "memory"
    assert Census(tasks=1, memory_bytes=1, disk_is_full=True).excess(limits) == "disk"


def test_files_within_the_folder_are_taken() -> None:
    files = {"a.py": "", "b/c.py": "x", "./d.py": ""}
    assert check_files(files) == files


@pytest.mark.parametrize(
    "files",
    [
        {f"{number}.py": "" for number in range(MAX_SOURCES + 1)},
        {"a.py": "x" * (MAX_SOURCE_BYTES + 1)},
        {"a.py": "\ud800"},
        {"a\x00b": ""},
        {".": ""},
    ],
)
def test_other_files_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(UnusableFiles):
        check_files(files)
