"""Asking witnesses to cosign the audit log's checkpoints, beside the auditor and never before it.

A witness that is down holds nothing up: the log goes on, the lag is shown, and the next
checkpoint that is asked for covers everything since. A witness that knows another history of
this log is the alarm that this is about: whoever runs the database cannot take it back.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, Protocol

import httpx
import structlog

from actors.task_end import end_all
from actors.witness_answer import Asked, Cosigned, Failed, Holds, Meaning, OtherBranch, meaning_of
from bus.errors import SwarmError
from bus.event import Draft, derive_id
from bus.payloads import WitnessContradicted
from bus.subjects import SYSTEM_RUN
from storage.audit_reader import StoredCheckpoint
from storage.cosign_request import write_request
from storage.cosignature import Cosignature, WitnessAddress
from storage.note import parse_note
from storage.witnessed import WitnessState

log = structlog.get_logger()

ASK_S: Final = 1.0
"""Between two requests to a witness, at least."""
AFRESH_S: Final = 60.0
"""After so long a witness is asked again, though the log has not grown: a database that was set
back to what was cosigned some time ago is noticed then."""
LONGEST_PAUSE_S: Final = 30.0
ANSWER_S: Final = 10.0
ANSWER_BYTES: Final = 64 * 1024
LAST_S: Final = 0.8
"""For the last checkpoint at a clean stop; a member is cancelled again after a second."""
TRIES: Final = 4
"""Requests until a witness's word for what it holds and ours have met."""

How = Literal["ahead", "branch", "forgot"]
Tell = Callable[[Draft], Awaitable[object]]
"""Says something to the swarm: an event."""


class Ledger(Protocol):
    """Where the log's checkpoints are, and what witnesses said of them is kept."""

    async def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """The newest checkpoint, or the one of that size, with its cosignatures."""
        ...

    async def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Proof that the tree of size old is a prefix of the one of size new."""
        ...

    async def keep(self, size: int, witness: WitnessAddress, cosignature: Cosignature) -> None:
        """Store a cosignature that was verified."""
        ...

    async def report(self, witness: WitnessAddress, problem: str, detail: str) -> None:
        """Note why a witness did not cosign."""
        ...

    async def state_of(self, witness: WitnessAddress) -> WitnessState | None:
        """How it stood with this witness."""
        ...


class Asking:
    """One witness, asked again and again."""

    def __init__(
        self, ledger: Ledger, witness: WitnessAddress, http: httpx.AsyncClient, tell: Tell
    ) -> None:
        self._ledger = ledger
        self._witness = witness
        self._http = http
        self._tell = tell
        self._cosigned: int | None = None
        self._problem = ""
        self._told: set[tuple[How, int]] = set()
        self._asked_at = float("-inf")

    async def run(self) -> None:
        """Ask until cancelled, at most once a second; what fails is tried again, more slowly."""
        pause_s = ASK_S
        while True:
            try:
                went_well = await self.once()
            except SwarmError as error:
                log.warning("audit.witness_not_asked", reason=str(error))
                went_well = False
            pause_s = ASK_S if went_well else min(2 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def once(self) -> bool:
        """Have the newest checkpoint cosigned, if that is due; whether all is well.

        Raises:
            StorageError: the audit log cannot be read.
            BusError: an alarm could not be told; it is told the next time.
        """
        if self._cosigned is None:
            state = await self._ledger.state_of(self._witness)
            self._cosigned = 0 if state is None else state.size
            self._problem = "" if state is None else state.problem
        newest = await self._ledger.checkpoint()
        if newest is None:
            return True
        rested = time.monotonic() - self._asked_at > AFRESH_S
        if newest.size == self._cosigned and not self._problem and not rested:
            return True
        went_well = await self._meet(newest, self._cosigned)
        self._asked_at = time.monotonic()
        return went_well

    async def _meet(self, checkpoint: StoredCheckpoint, cosigned: int) -> bool:
        """Ask, starting from what the witness says it holds, until it cosigns or contradicts."""
        old = min(cosigned, checkpoint.size)
        for _ in range(TRIES):
            match await self._ask(checkpoint, old):
                case Cosigned(cosignature=cosignature):
                    await self._keep(checkpoint.size, cosignature)
                    return True
                case OtherBranch():
                    return await self._contradicted("branch", checkpoint.size, old)
                case Failed(reason=reason):
                    return await self._failed(reason, checkpoint.size)
                case Holds(size=held) if held > checkpoint.size:
                    checkpoint = await self._ledger.checkpoint() or checkpoint
                    if held > checkpoint.size:
                        return await self._contradicted("ahead", checkpoint.size, held)
                    old = held
                case Holds(size=held):
                    if held < cosigned <= checkpoint.size:
                        await self._alarm("forgot", checkpoint.size, held)
                        checkpoint = await self._ledger.checkpoint(cosigned) or checkpoint
                    old = held
        return await self._failed("It does not say for certain what it holds.", checkpoint.size)

    async def _ask(self, checkpoint: StoredCheckpoint, old: int) -> Meaning:
        proof = await self._ledger.consistency(old, checkpoint.size)
        asked = Asked(old=old, size=checkpoint.size, text=parse_note(checkpoint.note).text)
        body = write_request(old, proof, checkpoint.handed_out)
        try:
            async with asyncio.timeout(ANSWER_S):
                status, answer = await self._post(body)
        except (httpx.HTTPError, TimeoutError) as error:
            return Failed(reason=f"It does not answer: {str(error) or type(error).__name__}")
        return meaning_of(asked, status, answer, self._witness.key)

    async def _post(self, body: bytes) -> tuple[int, str]:
        url = f"{self._witness.url}/add-checkpoint"
        async with self._http.stream("POST", url, content=body) as response:
            answer = bytearray()
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > ANSWER_BYTES:
                    break
            return response.status_code, answer[:ANSWER_BYTES].decode("utf-8", "replace")

    async def _keep(self, size: int, cosignature: Cosignature) -> None:
        await self._ledger.keep(size, self._witness, cosignature)
        if self._problem:
            log.info("audit.witness_is_back", witness=self._witness.key.name, size=size)
        log.debug("audit.cosigned", witness=self._witness.key.name, size=size)
        self._cosigned = max(size, self._cosigned or 0)
        self._problem = ""

    async def _failed(self, reason: str, size: int) -> bool:
        """Noted, unless it is known to contradict: that stays until it cosigns again."""
        lag = size - (self._cosigned or 0)
        if self._problem not in {"", "silent"}:
            return False
        if self._problem != "silent":
            log.warning(
                "audit.witness_silent", witness=self._witness.key.name, lag=lag, reason=reason
            )
        self._problem = "silent"
        await self._ledger.report(self._witness, "silent", reason)
        return False

    async def _contradicted(self, how: How, size: int, held: int) -> bool:
        self._problem = how
        detail = f"It has cosigned {held} leaves of another history than the {size} leaves here."
        if how == "ahead":
            detail = f"It has cosigned {held} leaves; this log has only {size}."
        await self._ledger.report(self._witness, how, detail)
        await self._alarm(how, size, held)
        return False

    async def _alarm(self, how: How, size: int, held: int) -> None:
        """Once for each thing that a witness says it holds."""
        if (how, held) in self._told:
            return
        name, key = self._witness.key.name, str(self._witness.key)
        log.error("audit.witness_contradicts", witness=name, how=how, size=size, held=held)
        payload = WitnessContradicted(witness=key, how=how, size=size, held=held)
        event_id = derive_id("witness.contradicted", key, how, str(held))
        await self._tell(Draft(run=SYSTEM_RUN, payload=payload, id=event_id))
        self._told.add((how, held))


@asynccontextmanager
async def witnessed(
    ledger: Ledger, witnesses: Sequence[WitnessAddress], tell: Tell
) -> AsyncIterator[None]:
    """Has every new checkpoint cosigned for the length of the block, the last one at its end.

    Args:
        ledger: the audit log's checkpoints.
        witnesses: whom to ask; each on its own, so that one holds up no other.
        tell: for the alarm that a witness knows another history.
    """
    limits = httpx.Timeout(ANSWER_S)
    async with httpx.AsyncClient(timeout=limits, follow_redirects=False) as http:
        askings = [Asking(ledger, witness, http, tell) for witness in witnesses]
        tasks = [asyncio.create_task(asking.run()) for asking in askings]
        for task in tasks:
            task.add_done_callback(_say_how_it_ended)
        try:
            yield
        finally:
            await end_all(tasks)
            await _once_more(askings)


async def _once_more(askings: Sequence[Asking]) -> None:
    """Who does not answer at once is asked again after the next start."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_S):
            await asyncio.gather(*(asking.once() for asking in askings), return_exceptions=True)


def _say_how_it_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("audit.witness_given_up", reason=repr(error))
