"""Reading the log of this machine's swarm itself, not through its gateway.

What is read is verified here, against the operator's public key in SWARM_HOME.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Final
from uuid import uuid4

from actors.authority import vouch
from actors.member import Domain
from bus.connection import open_connection
from bus.custody import FOLDER
from bus.event import StoredEvent
from bus.identity import Authority
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.payloads import RunSubmitted, StepCompleted, StepFailed
from bus.received import Received
from bus.signing import Sender
from bus.subject_keys import keys_in
from bus.subjects import is_reserved, is_token, kind_filter, kind_of, run_filter
from bus.vault import SubjectKeys
from cluster.assembly import authority
from cluster.control import read_state
from cluster.log_access import domain_of
from cluster.recorded_run import recorded_events, recorded_run
from cluster.settings import Settings
from swarm.errors import NotFound

OBSERVER: Final = "observer"
LIFE: Final = timedelta(hours=1)
_OUTCOMES: Final = (StepCompleted.TYPE, StepFailed.TYPE)
_INBOX: Final = "_INBOX"
"""Where an observer listens, as plain NATS clients do."""


@asynccontextmanager
async def observed_log(settings: Settings) -> AsyncIterator[EventLog]:
    """The log, for an identity that may read every event and says nothing.

    Raises:
        NotRunning: there is no swarm in this home.
        IdentityError: its keys cannot be read.
        BusUnreachable: its broker does not answer.
    """
    home = settings.located_home()
    state, root = read_state(settings), authority(home)
    async with observing(domain_of(state, root), root, keys_in(home.keys / FOLDER)) as log:
        yield log


@asynccontextmanager
async def observing(
    domain: Domain, root: Authority, keys: SubjectKeys | None = None
) -> AsyncIterator[EventLog]:
    """The log of a trust domain, under a credential that its authority makes for this.

    Args:
        domain: where its bus is.
        root: the authority.
        keys: of the people whose words are to be read.

    Raises:
        BusUnreachable: its broker does not answer.
    """
    key, name = AgentKey.generate(), f"{OBSERVER}-{uuid4().hex[:8]}"
    own = vouch(root, domain.policy(), key.public, role=OBSERVER, name=name, ttl=LIFE)
    async with open_connection(domain.nats_url, key, own, inbox=_INBOX) as connection:
        sender = Sender(key, own, domain.policy())
        yield EventLog(connection, domain.trust(), domain.policy(), sender, keys=keys)


async def read_run(log: EventLog, settings: Settings, run: str) -> list[Received]:
    """Everything that the log holds of a run; what has left the stream, the audit log has.

    Raises:
        NotFound: they hold nothing of it.
        BusUnreachable: the broker went away.
        StorageError: the audit log, where it is needed, does not answer.
    """
    events: list[Received] = []
    if is_token(run) and not is_reserved(run):
        async with aclosing(log.read(run_filter(run))) as reading:
            events = [received async for received in reading]
        if not events or not _begins(events[0]):
            before = events[0].stream_sequence if events else None
            events = [*await recorded_run(settings, log, run, before=before), *events]
    if not events:
        raise NotFound(f"The log holds no run {run[:64]!r}.", status=404)
    return events


async def find_answer(log: EventLog, settings: Settings, name: str) -> tuple[str, str]:
    """The run and the id of the answer with that id, or at that place of the log.

    Raises:
        NotFound: neither the log nor the audit log holds one.
        BusUnreachable, StorageError: as in `read_run`.
    """
    for outcome in _OUTCOMES:
        async with aclosing(log.read(kind_filter(kind_of(outcome)), unseal=False)) as reading:
            async for received in reading:
                if isinstance(received, StoredEvent) and name in (
                    received.event.id,
                    str(received.stream_sequence),
                ):
                    return received.event.run, received.event.id
    for record in await recorded_events(settings, name):
        if record.type in _OUTCOMES and record.event_id is not None:
            return record.run, record.event_id
    raise NotFound(f"The log holds no answer {name[:64]!r}.", status=404)


async def read_runs(log: EventLog) -> list[str]:
    """The ids of all runs in the log, in the order in which they were submitted."""
    async with aclosing(log.read(f"evt.*.*.{kind_of(RunSubmitted.TYPE)}")) as submissions:
        runs = [_run_of(received) async for received in submissions]
    return list(dict.fromkeys(runs))


def _begins(received: Received) -> bool:
    """Whether a run begins so."""
    return isinstance(received, StoredEvent) and received.event.type == RunSubmitted.TYPE


def _run_of(received: Received) -> str:
    return received.event.run if isinstance(received, StoredEvent) else received.run
