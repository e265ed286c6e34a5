"""The coordinator: folds the log, decides, publishes decisions. It owns no state.

Two coordinators do no harm: a decision is stored only if nothing happened in its run
since the state it was made from, and its id is the same whoever makes it.

One task reads, another decides. What has come while a decision was being stored is decided
on together. There is no polling: the decider waits for news or for the next moment on its
agenda, which is made anew from the log after a restart.
"""

import asyncio
from collections import deque
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Final

import structlog

from actors.agenda import Agenda
from actors.chains import ChainAlarms
from actors.command import AssignStep, draft_of
from actors.decide import decide, wake_at
from actors.fact import later
from actors.memory import Memory
from actors.open_run import OpenRun, defect_notice, stall_notice, stalls_at
from actors.schedule import Schedule, Turn, outstanding
from actors.task_end import end_all
from bus.errors import BusUnreachable, PublishConflict, PublishError, SealBroken
from bus.event import Draft, StoredEvent
from bus.log import RESTART_S, EventLog, Expected
from bus.received import Received, RefusedEvent
from bus.signing import Clock
from bus.subjects import ALL_EVENTS, is_reserved, run_filter

log = structlog.get_logger()

STALL_S: Final = 30.0
RETRY_S: Final = 1.0
"""Before a decision that the stream refused is made again: the news is on its way, or lost."""
LONGEST_SLEEP_S: Final = 60.0
"""The clock on the wall may be set, or the machine may sleep, while we wait."""
MOST_REFUSALS: Final = 1_000
"""That wait to be put on record; of more, the oldest are left out."""
TURNS_AT_ONCE: Final = 16
"""Assignments that go out before news is looked at again."""


class _LogSetBack(Exception):
    """The stream ends before what was read of it."""


class Coordinator:
    """Drives every run of the log to its end."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        window: int | None = None,
        stall_s: float = STALL_S,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """Take a place in the swarm.

        Args:
            event_log: where it reads and speaks.
            window: assignments of one role that may be out at a time; more than the agents
                of a role can take at once, so that none waits for us. None for no limit.
            stall_s: seconds without a fact after which a run counts as standing still.
            clock: the time in UTC.
        """
        self._log = event_log
        self._window = window
        self._stall_s = stall_s
        self._clock = clock
        self._news = asyncio.Event()
        self._begin()

    def _begin(self) -> None:
        """Know nothing."""
        self._memory = Memory()
        self._schedule = Schedule(self._window)
        self._agenda = Agenda()
        self._alarms = ChainAlarms()
        self._refused: deque[RefusedEvent] = deque(maxlen=MOST_REFUSALS)
        self._dirty: dict[str, None] = {}
        self._live = False
        self._started_at = self._clock()

    async def run(self) -> None:
        """Read the whole log, then decide as it grows, until cancelled.

        Raises:
            BusUnreachable: the connection was closed on our side.
        """
        while True:
            self._begin()
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._work())]
            try:
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            except _LogSetBack as error:
                log.error("coordinator.log_set_back", reason=str(error))
            finally:
                await end_all(tasks)

    async def _read(self) -> None:
        position = 0
        while True:
            try:
                if await self._log.last_sequence() < position:
                    raise _LogSetBack(f"the stream ends before {position}")
                if not self._live:
                    async with aclosing(self._log.read(ALL_EVENTS, after=position)) as events:
                        async for received in events:
                            position = received.stream_sequence
                            self._take(received)
                    self._go_live()
                following = self._log.follow_once(ALL_EVENTS, after=position)
                async with aclosing(following) as events:
                    async for received in events:
                        position = received.stream_sequence
                        self._take(received)
            except BusUnreachable as error:
                if self._log.connection.is_closed:
                    raise
                log.info("coordinator.reader_restarts", after=position, reason=str(error))
                await asyncio.sleep(RESTART_S)

    def _go_live(self) -> None:
        """Everything that was stored before is folded: from here on it is decided."""
        self._live = True
        self._started_at = self._clock()
        self._dirty.update(dict.fromkeys(self._memory.runs))
        for run_id, run in self._memory.runs.items():
            self._schedule.note(run_id, outstanding(run.state))
        self._news.set()

    def _take(self, received: Received) -> None:
        if isinstance(received, RefusedEvent):
            log.warning("coordinator.ignores", stream_sequence=received.stream_sequence)
            run_id = received.run
            if self._live and isinstance(received.error, SealBroken):
                self._refused.append(received)
                self._news.set()
        else:
            self._follow_chain(received)
            run_id = received.event.run
        if is_reserved(run_id):
            return
        has_moved = self._memory.take(received)
        if self._live:
            if has_moved:
                self._dirty[run_id] = None
            if has_moved or self._memory.unread:
                self._news.set()
        elif has_moved and self._memory.runs[run_id].is_over:
            self._memory.close(run_id)

    def _follow_chain(self, received: StoredEvent) -> None:
        """Raise the alarm where a chain does not join, and go on: what is said was signed."""
        broken = self._alarms.take(received, live=self._live)
        if broken is not None:
            log.error(
                "coordinator.chain_broken",
                sender=broken.sender,
                sequence=broken.found_sequence,
                expected=broken.expected_sequence,
                stream_sequence=broken.stream_sequence,
            )
            self._news.set()

    async def _work(self) -> None:
        while True:
            await self._wait()
            self._news.clear()
            self._dirty.update(dict.fromkeys(self._agenda.due(self._clock())))
            try:
                await self._turn()
            except (PublishError, BusUnreachable) as error:
                log.warning("coordinator.tries_again", code=error.code, reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _wait(self) -> None:
        """Return once there is something to do."""
        while not self._live:
            await self._news.wait()
            self._news.clear()
        if (
            self._dirty
            or self._alarms
            or self._refused
            or self._memory.unread
            or self._schedule.has_turn()
        ):
            return
        moment = self._agenda.next()
        delay_s = LONGEST_SLEEP_S
        if moment is not None:
            delay_s = min(delay_s, max(0.0, (moment - self._clock()).total_seconds()))
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._news.wait()

    async def _turn(self) -> None:
        """Alarms first, then everything that has changed, then what may be assigned."""
        await self._raise_alarms()
        for run_id in tuple(self._memory.unread):
            await self._memory.read(self._log, run_id)
            self._dirty[run_id] = None
        for run_id in tuple(self._dirty):
            del self._dirty[run_id]
            try:
                await self._consider(run_id)
            except BusUnreachable:
                self._dirty[run_id] = None
                raise
        for _ in range(TURNS_AT_ONCE):
            turn = self._schedule.take()
            if turn is None:
                break
            await self._assign(turn)
        await self._record_refusals()

    async def _record_refusals(self) -> None:
        """Put on record what the auditor cannot refuse: it has no key to what is sealed."""
        for _ in range(min(len(self._refused), TURNS_AT_ONCE)):
            try:
                await self._log.record_refusal(self._refused[0])
            except PublishError as error:
                if error.retryable:
                    raise
                log.error("coordinator.refusal_not_stored", code=error.code, why=str(error))
            self._refused.popleft()

    async def _raise_alarms(self) -> None:
        """Put on record what was found, unless it is."""
        while (alarm := self._alarms.first()) is not None:
            try:
                await self._log.append(alarm)
            except PublishError as error:
                if error.retryable:
                    raise
                log.error("coordinator.alarm_not_stored", code=error.code, why=str(error))
            self._alarms.done(alarm)

    async def _consider(self, run_id: str) -> None:
        """Say what is to be said of a run; one that a fault of ours has met is set aside."""
        run = await self._known(run_id)
        if run is None:
            return
        if run.defect is None:
            with run.alone():
                await self._decide(run_id, run)
        if run.defect is not None:
            await self._set_aside(run_id, run)

    async def _set_aside(self, run_id: str, run: OpenRun) -> None:
        """Let a run be that we cannot read or decide on, and say so once."""
        self._schedule.forget(run_id)
        self._agenda.forget(run_id)
        if not run.is_defect_told:
            log.error("coordinator.defect", run=run_id, exc_info=run.defect)
            await self._say(run_id, run, defect_notice(run, run_id, self._clock()))

    async def _decide(self, run_id: str, run: OpenRun) -> None:
        """Say what follows from the state of a run; assignments wait for their turn."""
        now, assignments = self._clock(), []
        for command in decide(run.state, now):
            if isinstance(command, AssignStep):
                assignments.append(command)
            elif not await self._say(run_id, run, draft_of(command, run.state)):
                self._schedule.withdraw(run_id)
                return
        if run.is_over:
            self._memory.close(run_id)
            self._schedule.forget(run_id)
            self._agenda.forget(run_id)
            return
        submission = run.state.submission
        if submission is not None:
            self._schedule.offer(
                run_id, priority=submission.priority, since=submission.at, commands=assignments
            )
        self._schedule.note(run_id, outstanding(run.state))
        await self._look_again(run_id, run, now)

    async def _known(self, run_id: str) -> OpenRun | None:
        """The run as the log has it: read anew if it may be another than we think."""
        run = self._memory.runs.get(run_id)
        if run is None:
            return None
        if run.refused_at == run.position:
            log.warning("coordinator.reads_again", run=run_id, position=run.position)
            return await self._memory.read(self._log, run_id)
        return run

    async def _look_again(self, run_id: str, run: OpenRun, now: datetime) -> None:
        """Put the run on the agenda; notice that it stands still, once."""
        wakes_at = wake_at(run.state, now)
        if wakes_at is not None:
            self._agenda.set(run_id, wakes_at)
        stalled_at = stalls_at(run, now, self._started_at, self._stall_s)
        if stalled_at is None:
            return
        if now < stalled_at:
            self._agenda.set(run_id, stalled_at)
        elif run_id not in self._dirty:
            draft = stall_notice(run, now, self._schedule.waiting(run_id))
            if await self._say(run_id, run, draft):
                log.warning("coordinator.stall_noticed", run=run_id)

    async def _assign(self, turn: Turn) -> None:
        run = self._memory.runs.get(turn.run)
        if run is None or run.defect or turn.run in self._dirty:
            return  # what is to be assigned is decided anew
        deadline_at = run.state.deadline_at
        if deadline_at is not None and self._clock() >= deadline_at:
            self._dirty[turn.run] = None  # what was decided in time is too late by now
            return
        with run.alone():
            if await self._say(turn.run, run, draft_of(turn.command, run.state)):
                self._schedule.note(turn.run, outstanding(run.state))
        if run.defect is not None:
            self._dirty[turn.run] = None

    async def _say(self, run_id: str, run: OpenRun, draft: Draft) -> bool:
        """Store a decision if nothing happened in its run meanwhile; whether it is stored."""
        position = run.position
        expected = Expected(subject_filter=run_filter(run_id), stream_sequence=position)
        retry_at = later(self._clock(), RETRY_S)
        try:
            stored = await self._log.append(draft, expected=expected)
        except PublishConflict:
            run.refused_at = position
            log.debug("coordinator.decides_again", run=run_id, type=draft.payload.TYPE)
        except (PublishError, BusUnreachable) as error:
            log.warning("coordinator.could_not_say", run=run_id, code=error.code, why=str(error))
        else:
            is_ours = stored.event.key == self._log.sender.key.public
            if is_ours and stored.stream_sequence > position:
                # Nothing stands between: the stream has just said so.
                run.take(stored)
                return True
        self._agenda.set(run_id, retry_at)
        return False
