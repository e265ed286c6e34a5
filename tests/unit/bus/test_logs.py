"""A log is worth less than what it tells of."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LOGS = """
import structlog
from bus.logs import configure_logs

configure_logs()
log = structlog.get_logger()
for number in range(2000):
    log.warning("disk.full", number=number)
try:
    raise ZeroDivisionError
except ZeroDivisionError:
    log.exception("work.failed")
print("went on")
"""


def _logging(stderr: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", LOGS]
    return subprocess.run(
        command, cwd=ROOT, env={}, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )


@pytest.mark.parametrize("options", [(), ("-u",)], ids=["buffered", "unbuffered"])
def test_a_process_whose_log_has_no_room_goes_on(options: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        assert _logging(full.fileno(), *options).stdout == "went on\n"


def test_a_process_whose_log_nobody_reads_goes_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert _logging(writing).stdout == "went on\n"
    finally:
        os.close(writing)


def test_where_there_is_room_each_line_is_one_document() -> None:
    lines = [json.loads(line) for line in _logging(subprocess.PIPE).stderr.splitlines()]
    assert [line.get("number") for line in lines] == [*range(2000), None]
    assert "ZeroDivisionError" in lines[-1]["exception"]
