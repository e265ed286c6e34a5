"""Starting and stopping a swarm from outside: what `swarm up` and `swarm down` call."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from cluster import state as states
from cluster import stragglers
from cluster.errors import (
    AlreadyRunning,
    ClusterError,
    NotRunning,
    PartFailed,
    StartTimeout,
    from_code,
)
from cluster.home import Home, open_home
from cluster.settings import Settings, child_environment
from cluster.state import EXIT_ALREADY_RUNNING, Phase, Progress, ProgressReader, State

OnProgress = Callable[[Progress], None]

SUPERVISOR = (sys.executable, "-P", "-m", "cluster.supervisor")

_POLL_S = 0.05
_GUARD_GRACE_S = 15.0
"""After the supervisor's own deadline for stopping: the guard's time to kill what is left."""
_KILL_LIMIT_S = 15.0
_LOG_TAIL_LINES = 12


async def up(
    settings: Settings, on_progress: OnProgress, *, command: Sequence[str] = SUPERVISOR
) -> State:
    """Start a swarm in the background and return when it is ready for work.

    It goes on when this process ends. If this call fails or is cancelled, everything that it
    started has ended again before it returns.

    Args:
        settings: passed to the supervisor through a pipe, secrets included.
        on_progress: called for each part that starts, is ready, or fails.
        command: the supervisor; tests pass their own.

    Raises:
        AlreadyRunning: this home has a swarm.
        HomeInUse: another command works in it.
        HomeNotUsable: the home cannot be created or written.
        PartFailed: a part did not come up; named with its log.
        StartTimeout: not ready in time.
    """
    home = open_home(settings.home)
    turn = await _turn_to_start(home)
    try:
        await asyncio.to_thread(_clear_crashed, home)
        start = _Start(settings, home, command, turn)
    except BaseException:
        os.close(turn)
        raise
    try:
        async with asyncio.timeout(settings.start_timeout_s + _GUARD_GRACE_S):
            return await start.ready(on_progress)
    except TimeoutError:
        await start.abandon(on_progress)
        raise StartTimeout(
            f"The swarm was not ready within {settings.start_timeout_s:g} s."
        ) from None
    except BaseException:
        await asyncio.shield(start.abandon(on_progress))
        raise
    finally:
        start.close()


async def down(settings: Settings, on_progress: OnProgress) -> None:
    """Stop the swarm and return when no process of it is left.

    A swarm that died has its remains cleared away.

    Raises:
        NotRunning: there is none, nor remains of one.
        HomeInUse: another command works in the home; nothing is ended.
        ClusterError: something is left that cannot be killed.
    """
    home = settings.located_home()
    progress = ProgressReader(home, from_now=True)
    state = await _running(home)
    if state is None:
        if not await asyncio.to_thread(_clear_crashed, home):
            raise NotRunning(f"No swarm is running in {home.root}.")
        return
    # Between two supervisors the guard is told, so that no further one follows.
    listening = state.supervisor_pid if state.alive() else state.guard_pid
    _signal(listening, signal.SIGTERM)
    deadline = time.monotonic() + settings.stop_timeout_s + _GUARD_GRACE_S
    while states.locked(home) and time.monotonic() < deadline:
        if not state.lives_in(home):  # the last of its threads may hold the lock for a moment
            deadline = min(deadline, time.monotonic() + _GUARD_GRACE_S)
        elif listening != state.guard_pid and not state.alive():
            listening = state.guard_pid  # the supervisor died before it could do as it was asked
            _signal(listening, signal.SIGTERM)
        progress.read(on_progress)
        await asyncio.sleep(_POLL_S)
    progress.read(on_progress)
    _reap(state.guard_pid)
    if states.locked(home):
        if not state.lives_in(home):
            return  # another command took the home meanwhile, and ends what was left itself
        _signal(state.supervisor_pid, signal.SIGKILL, only_if=state.alive())
    await asyncio.to_thread(_end_stragglers, home)


def read_state(settings: Settings) -> State:
    """The state of the swarm that runs in this home, starting or ready.

    Raises:
        NotRunning: there is none, or it died.
        HomeNotUsable: the state cannot be read.
    """
    return states.load_running(settings.located_home())


class _Start:
    """A supervisor that we have started and that is not ready yet."""

    def __init__(self, settings: Settings, home: Home, command: Sequence[str], turn: int) -> None:
        self._settings = settings
        self._home = home
        self._turn = turn
        self._status: int | None = None
        reading, self._control = os.pipe()
        log = os.open(home.log("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(log).st_size
        try:
            # Not subprocess: the supervisor outlives the object, which would complain.
            self._pid = os.posix_spawn(
                command[0],
                list(command),
                child_environment(settings),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reading, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,  # Ctrl-C in the terminal is for the caller to translate
            )
        finally:
            os.close(reading)
            os.close(log)
        with suppress(BrokenPipeError):  # it ended already; `ready` finds out why
            os.write(self._control, f"{settings.to_wire()}\n".encode())

    async def ready(self, on_progress: OnProgress) -> State:
        """Follow the start to its end."""
        progress = ProgressReader(self._home)
        while not self._ended():
            state = states.load(self._home)
            if state is not None and state.guard_pid == self._pid:  # not that of an earlier start
                self._end_turn()  # it has the home
                progress.read(on_progress)
                if state.phase is Phase.READY:
                    return state
            await asyncio.sleep(_POLL_S)
        state = states.load(self._home)
        if self._status == EXIT_ALREADY_RUNNING:
            raise states.in_use(self._home)
        if state is None or state.guard_pid != self._pid:
            raise PartFailed(f"The supervisor ended unexpectedly. {self._tail()}")
        if state.phase is Phase.STOPPED:
            raise NotRunning("The swarm was stopped before it was ready.")
        if state.failure is None:
            raise PartFailed(f"The supervisor ended unexpectedly. {self._tail()}")
        progress.read(on_progress)
        raise from_code(state.failure.code, state.failure.message)

    async def abandon(self, on_progress: OnProgress) -> None:
        """Have everything stopped, and wait until it is gone; harmless if it has ended."""
        self.close()
        if self._ended():
            return
        progress = ProgressReader(self._home, from_now=True)
        _signal(self._pid, signal.SIGTERM)  # the guard passes it on
        deadline = time.monotonic() + self._settings.stop_timeout_s + _GUARD_GRACE_S
        while not self._ended():
            if time.monotonic() > deadline:
                await asyncio.to_thread(_end_stragglers, self._home)
                return
            progress.read(on_progress)
            await asyncio.sleep(_POLL_S)
        progress.read(on_progress)

    def close(self) -> None:
        """Close the control pipe, and let others start."""
        self._end_turn()
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def _end_turn(self) -> None:
        if self._turn >= 0:
            os.close(self._turn)
            self._turn = -1

    def _ended(self) -> bool:
        if self._status is None:
            try:
                ended, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # `down` in this process reaped it; the state tells the rest
                ended, status = self._pid, 0
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def _tail(self) -> str:
        path = self._home.log("supervisor")
        with path.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        return f"Its log is {path}" + "".join(f"\n  {line}" for line in lines[-_LOG_TAIL_LINES:])


async def _turn_to_start(home: Home) -> int:
    deadline = time.monotonic() + _GUARD_GRACE_S
    while (turn := states.take_turn(home)) is None:
        if time.monotonic() > deadline:
            raise AlreadyRunning(f"A swarm is being started in {home.root}.")
        await asyncio.sleep(_POLL_S)
    return turn


async def _running(home: Home) -> State | None:
    """The state of the swarm that has the home; None where nobody has it.

    A supervisor that has just taken the home is waited for until it says so.

    Raises:
        HomeInUse: another command has the home.
    """
    deadline = time.monotonic() + _GUARD_GRACE_S
    while True:
        state = states.load(home)
        if state is not None and state.lives_in(home):
            return state
        if not states.locked(home):
            return None
        if time.monotonic() > deadline:
            raise states.in_use(home)
        await asyncio.sleep(_POLL_S)


def _clear_crashed(home: Home) -> bool:
    """End what a killed swarm left; whether there was anything, a stale state included.

    Raises:
        AlreadyRunning: it is not dead.
        HomeInUse: another command has the home.
    """
    if states.locked(home):
        state = states.load(home)
        if state is not None and state.alive():
            raise AlreadyRunning(f"A swarm is already running in {home.root}.")
        _await_unlocked(home)
    left = bool(stragglers.find(home))
    if left:
        _end_stragglers(home)
    state = states.load(home)
    stale = state is not None and state.phase not in {Phase.STOPPED, Phase.FAILED}
    if state is not None and stale:
        states.save(home, state.model_copy(update={"phase": Phase.STOPPED}))
    return left or stale


def _await_unlocked(home: Home) -> None:
    """The guard of a dead supervisor clears up, a swarm is about to start, a command is at work."""
    deadline = time.monotonic() + _GUARD_GRACE_S
    while states.locked(home):
        state = states.load(home)
        if (state is not None and state.alive()) or time.monotonic() > deadline:
            raise states.in_use(home)
        time.sleep(_POLL_S)


def _end_stragglers(home: Home) -> None:
    left = stragglers.end(home, grace_s=2.0, limit_s=_KILL_LIMIT_S)
    if left:
        raise ClusterError(f"{left} processes of the swarm in {home.root} could not be killed.")


def _reap(pid: int) -> None:
    """Where this process started the guard, it is ours to reap."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _signal(pid: int, number: signal.Signals, *, only_if: bool = True) -> None:
    if only_if:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            os.kill(pid, number)
