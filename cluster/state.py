"""What a swarm says of itself in SWARM_HOME/run: a lock, its state, its progress."""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, TextIO

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster import stragglers
from cluster.errors import AlreadyRunning, HomeInUse, HomeNotUsable, NotRunning
from cluster.home import Home, write_private

EXIT_ALREADY_RUNNING = 3
"""The supervisor's exit status when somebody else has the home."""

_START_TOLERANCE_S = 2.0
"""Process start times are counted in ticks since boot, and the clock may be adjusted."""


_LOCK_ATTEMPTS = 4
_LOCK_PAUSE_S = 0.05


class Phase(StrEnum):
    """Where a swarm is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(_Document):
    """One part has got somewhere."""

    part: str
    phase: Literal["starting", "ready", "failed", "stopping", "stopped"]
    seconds: float = 0.0
    """Since the part began to start or stop."""
    detail: str = ""


class Failure(_Document):
    """Why a swarm is down: an error of cluster/errors.py, by its code."""

    code: str
    message: str


class PublicAddresses(_Document):
    """Where everything is, without any password: those are in SWARM_HOME/keys."""

    gateway: str = ""
    nats: str = ""
    postgres: str = ""
    redis: str = ""
    qdrant: str = ""
    ray: str = ""
    ray_dashboard: str = ""


class State(_Document):
    """What SWARM_HOME/run/state.json holds."""

    phase: Phase
    guard_pid: int
    supervisor_pid: int
    supervisor_started: float
    """Seconds since the epoch: a process id alone may be reused."""
    began: datetime
    model_profile: str
    embedding_profile: str = ""
    further_profiles: tuple[str, ...] = ()
    """Of models that only some roles ask."""
    versions: dict[str, str] = Field(default_factory=dict)
    addresses: PublicAddresses = PublicAddresses()
    seconds: dict[str, float] = Field(default_factory=dict)
    """How long each part took to start; "total" for all of it."""
    workers: tuple[str, ...] = ()
    """Roles of the user's own agents: whoever makes credentials has to know their queues."""
    gateway_certificate: Path | None = None
    """What the gateway proves itself by, where it speaks TLS."""
    bundle: str = ""
    """The text of the policy bundle, empty for the shipped one: credentials are made by it."""
    failure: Failure | None = None

    def alive(self) -> bool:
        """Whether its supervisor still runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.supervisor_pid)
            same = abs(process.create_time() - self.supervisor_started) < _START_TOLERANCE_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False

    def lives_in(self, home: Home) -> bool:
        """Whether its supervisor still runs, or its guard, which has another one follow.

        By now another program may have the guard's process id: it does not bear the home's mark.
        """
        if self.alive():
            return True
        with suppress(psutil.NoSuchProcess):
            return stragglers.bears_mark(psutil.Process(self.guard_pid), home)
        return False


def no_address(state: State) -> str:
    """What is said of a part whose address the state does not have."""
    return f"no address yet: the swarm is {state.phase}"


def state_file(home: Home) -> Path:
    """Where the state is."""
    return home.run / "state.json"


def progress_file(home: Home) -> Path:
    """Where the progress of the last start and stop is, a JSON document a line."""
    return home.run / "progress.jsonl"


def load(home: Home) -> State | None:
    """The state last written, of a swarm that may be dead by now; None if there is none."""
    try:
        return State.model_validate_json(state_file(home).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise HomeNotUsable(f"Cannot read {state_file(home)}: {error}") from error


def load_running(home: Home) -> State:
    """The state of the swarm that runs in this home.

    Raises:
        NotRunning: there is none, or it died; the message says which.
    """
    state = load(home)
    if state is None:
        raise NotRunning(f"No swarm is running in {home.root}.")
    if not state.alive():
        if state.phase is Phase.FAILED and state.failure is not None:
            raise NotRunning(
                f"No swarm is running in {home.root}. The last start failed: "
                f"{state.failure.message}"
            )
        if state.phase is not Phase.STOPPED:
            raise NotRunning(f"No swarm is running in {home.root}: the last one was killed.")
        raise NotRunning(f"No swarm is running in {home.root}.")
    return state


def save(home: Home, state: State) -> None:
    """Replace the state in one step."""
    write_private(state_file(home), state.model_dump_json(indent=2).encode())


def lock(home: Home) -> int:
    """Take the home for this process and the children it forks; free again when all are gone.

    Returns:
        The file descriptor that holds the lock.

    Raises:
        HomeInUse: a swarm or another command has it.
    """
    descriptor = os.open(home.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(_LOCK_ATTEMPTS):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        time.sleep(_LOCK_PAUSE_S)  # `locked` holds it for an instant
    os.close(descriptor)
    raise in_use(home)


def in_use(home: Home) -> HomeInUse:
    """Who has a home that is locked, as an error: its swarm, or another command."""
    state = load(home)
    if state is not None and state.lives_in(home):
        return AlreadyRunning(f"A swarm is already running in {home.root}.")
    return HomeInUse(f"Another command works in {home.root}.")


def locked(home: Home) -> bool:
    """Whether somebody has the home.

    A swarm, the guard of a dead one that is still clearing up, or a command that has started the
    servers of a stopped one.
    """
    try:
        descriptor = os.open(home.run / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def take_turn(home: Home) -> int | None:
    """Be the one process that looks for remains in the home and starts a supervisor there.

    Until that has the home's lock, another start would take it for a remain of a dead swarm.

    Returns:
        The file descriptor that holds the turn until it is closed; None while another has it.
    """
    descriptor = os.open(home.run / "turn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class ProgressWriter:
    """Appends progress to the file that `swarm up` and `swarm down` follow."""

    def __init__(self, home: Home) -> None:
        self._path = progress_file(home)

    def clear(self) -> None:
        """Begin a new file."""
        write_private(self._path, b"")

    def write(self, progress: Progress) -> None:
        """Add a line, at once visible to readers; it is lost where the disk is full."""
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(progress.model_dump_json() + "\n")


class ProgressReader:
    """Follows that file."""

    def __init__(self, home: Home, *, from_now: bool = False) -> None:
        self._path = progress_file(home)
        self._position = self._path.stat().st_size if from_now and self._path.exists() else 0

    def read(self, on_progress: Callable[[Progress], None]) -> None:
        """Pass on the lines added since the last call."""
        with (
            suppress(FileNotFoundError),
            self._path.open(encoding="utf-8", errors="replace") as file,
        ):
            file.seek(self._position)
            while line := _whole_line(file):
                self._position = file.tell()
                if (progress := _parsed(line)) is not None:
                    on_progress(progress)


def _parsed(line: str) -> Progress | None:
    """None: a full disk cut it off."""
    try:
        return Progress.model_validate_json(line)
    except ValidationError:
        return None


def _whole_line(file: TextIO) -> str:
    line = file.readline()
    return line if line.endswith("\n") else ""


def now() -> datetime:
    """The time, for `State.began`."""
    return datetime.now(UTC)
