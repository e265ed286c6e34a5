"""Opening what the gateway works with, at the addresses it was given, and closing it again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

from actors.fact import GATEWAY
from actors.member import Domain, Enrolment, Issue, Unlock, joined
from actors.memory_client import MemoryClient
from actors.ray_memory import RayMemory
from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.log import EventLog
from policies.capabilities import Capabilities
from policies.pace import Pace
from policies.passwords import Passwords
from policies.token_keys import KeyFolder, TokenKeys
from policies.tokens import DEFAULT_TTL_S
from serve.allowance import Allowances
from serve.attempts import Attempts
from serve.callers import Callers
from serve.evidence import Anchors
from serve.fallback import FallbackConfig
from serve.inference import APP, EMBEDDING_APP, ModelClient, ServedModels
from serve.memory_ports import Memory, MemoryKeeping
from serve.metering import Meter
from serve.part_states import memory_state, model_state
from serve.people import People, PeopleRules
from serve.people_events import PeopleEvents
from serve.ports import ChatModel, GatewayParts, Limits, Probe, Web
from serve.resilience import ResilientModel, resilient
from storage.api_keys import ApiKeyStore
from storage.cache import Cache, LoginThrottle
from storage.evidence import EvidenceReader
from storage.memory import MemoryReader
from storage.people_outbox import PeopleOutbox
from storage.postgres import Pool, open_pool, ping
from storage.rate_limits import RateLimits
from storage.run_owners import RunOwnerReader
from storage.session_items import SessionItems
from storage.sessions import SessionStore
from storage.token_budgets import TokenBudgets
from storage.usage import UsageReader
from storage.users import UserStore

POOL_KEPT: Final = 4
"""Connections to Postgres kept open: opening one takes longer than most requests."""
SETTLED_WITHIN_S: Final = 600.0
"""After the longest answer: a broker that is down that long leaves tokens reserved no longer."""
TOKEN_ISSUER: Final = "vllm-swarm"  # noqa: S105 - a name
TOKEN_AUDIENCE: Final = "vllm-swarm/gateway"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything that a gateway replica needs to know; pickles, and shows no secret in its repr.

    Attributes:
        domain: where the bus is, and its root of trust.
        enrolment: the right to a credential of role "gateway".
        issue: asks the authority for that credential; must pickle.
        unlock: asks it for the keys of people; must pickle.
        database_url: ``postgresql://...``, migrated.
        redis_url: ``redis://...``
        token_key: file with the Ed25519 key that signs access tokens (PEM, 0600); may be
            replaced while the gateway runs.
        attempt_key: of the hashes that stand for names and addresses in the log.
        model_name: what the agents' model is called, in requests and in /v1/models.
        log_key_jwt: the root's word over the key that signs checkpoints; goes into evidence.
        role_models: what the models of roles with one of their own are called.
        role_apps: the Serve applications of these models, by what they are called.
        workflows: what may be run, by name.
        model_app: the Serve application that holds it.
        embedding_app: the one that turns texts into vectors.
        fallback: who answers where the model cannot; None: nobody.
        login_attempts: may fail per user name within `login_window_s`.
        token_ttl_s: life of an access token.
        people: what is set about people.
        memory: who keeps the memory; must pickle.
        max_ongoing_requests: event streams count as long as they are open.
    """

    domain: Domain
    enrolment: Enrolment = field(repr=False)
    issue: Issue
    unlock: Unlock
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    token_key: Path
    attempt_key: bytes = field(repr=False)
    model_name: str
    log_key_jwt: str
    workflows: Mapping[str, WorkflowSpec] = field(default_factory=lambda: WORKFLOWS)
    role_models: Mapping[str, str] = field(default_factory=dict)
    role_apps: Mapping[str, str] = field(default_factory=dict)
    model_app: str = APP
    embedding_app: str = EMBEDDING_APP
    fallback: FallbackConfig | None = None
    login_attempts: int = 5
    login_window_s: float = 300.0
    token_ttl_s: int = DEFAULT_TTL_S
    max_ongoing_requests: int = 1_000
    limits: Limits = field(default_factory=Limits)
    web: Web = field(default_factory=Web)
    people: PeopleRules = field(default_factory=PeopleRules)
    memory: MemoryKeeping = field(default_factory=RayMemory, compare=False)


@asynccontextmanager
async def connect_parts(
    config: GatewayConfig, model: ChatModel | None = None
) -> AsyncGenerator[GatewayParts, None]:
    """The parts, connected for the length of the block; Redis and the model when first used.

    Args:
        config: where everything is.
        model: instead of the Serve application that the configuration names.

    Raises:
        KeyFileError: the token key cannot be read.
        IdentityError: the authority did not vouch for this gateway.
        BusUnreachable, StorageUnavailable: no connection in time; start again.
    """
    keys = KeyFolder(config.token_key)
    policy = config.domain.policy()
    own = _resilient(config, config.model_app, policy)
    chat_model = model or ServedModels(
        own,
        ModelClient(app=config.embedding_app),
        {name: _resilient(config, app, policy) for name, app in config.role_apps.items()},
    )
    async with (
        open_pool(config.database_url, min_size=POOL_KEPT) as pool,
        Cache.open(config.redis_url) as cache,
        joined(config.domain, config.enrolment, config.issue, unlock=config.unlock) as log,
    ):
        people = _people(config, keys, log, pool, cache)
        usage = UsageReader(pool)
        meter = Meter(log, policy, _allowances(config, log, usage, cache), _now)
        async with _recording(people, meter):
            yield GatewayParts(
                log=log,
                people=people,
                audit=EvidenceReader(pool),
                memory=_memory(config, log, pool, cache),
                anchors=_anchors(config),
                model=chat_model,
                meter=meter,
                usage=usage,
                workflows=config.workflows,
                model_name=config.model_name,
                role_models=config.role_models,
                probes=_probes(config, log, pool, cache, own if model is None else chat_model),
                limits=config.limits,
                web=config.web,
                policy=policy,
                chat_pace=Pace(policy.spend(GATEWAY).requests_per_minute),
            )


@asynccontextmanager
async def _recording(people: People, meter: Meter) -> AsyncGenerator[None, None]:
    """What is recorded in the background, to the end of the block and then as far as it goes."""
    tasks = [
        asyncio.create_task(people.attempts.keep_flushing()),
        asyncio.create_task(people.events.keep_passing_on()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await meter.flush()
        await people.attempts.flush()
        await people.events.flush()


def _resilient(
    config: GatewayConfig, app: str, policy: Capabilities
) -> ModelClient | ResilientModel:
    """The way to an app, with the provider behind it that the policy lets the gateway ask."""
    own = resilient(ModelClient(app=app), config.fallback)
    if isinstance(own, ResilientModel):
        return own.permitted(lambda name: policy.call_refusal(GATEWAY, "model", name) is None)
    return own


def _people(
    config: GatewayConfig, keys: KeyFolder, log: EventLog, pool: Pool, cache: Cache
) -> People:
    tokens = TokenKeys(
        keys.read, issuer=TOKEN_ISSUER, audience=TOKEN_AUDIENCE, life_s=config.token_ttl_s
    )
    attempts = Attempts(log, config.attempt_key)
    sessions, api_keys = SessionStore(pool), ApiKeyStore(pool)
    return People(
        users=UserStore(pool),
        passwords=Passwords(),
        sessions=sessions,
        api_keys=api_keys,
        tokens=tokens,
        throttle=LoginThrottle(cache, config.login_attempts, config.login_window_s),
        rates=RateLimits(cache),
        callers=Callers(tokens=tokens, sessions=sessions, api_keys=api_keys, attempts=attempts),
        attempts=attempts,
        events=PeopleEvents(PeopleOutbox(pool), log),
        owners=RunOwnerReader(pool),
        rules=config.people,
    )


def _allowances(
    config: GatewayConfig, log: EventLog, usage: UsageReader, cache: Cache
) -> Allowances:
    return Allowances(
        counters=TokenBudgets(cache, life=uuid4().hex),
        books=usage,
        stream=log,
        clock=_now,
        life_s=config.limits.chat_timeout_s + SETTLED_WITHIN_S,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _memory(config: GatewayConfig, log: EventLog, pool: Pool, cache: Cache) -> Memory:
    return Memory(
        records=MemoryReader(pool),
        sessions=SessionItems(cache),
        keeping=config.memory,
        questions=MemoryClient(service=config.memory, log=log),
    )


def _anchors(config: GatewayConfig) -> Anchors:
    return Anchors(
        operator=config.domain.operator_public_key,
        account_jwt=config.domain.account_jwt,
        log_key_jwt=config.log_key_jwt,
        policies=(config.domain.policy().document,),
    )


def _probes(
    config: GatewayConfig, log: EventLog, pool: Pool, cache: Cache, model: ChatModel
) -> dict[str, Probe]:
    async def bus() -> None:
        await log.last_sequence()

    return {
        "nats": bus,
        "postgres": partial(ping, pool),
        "redis": cache.ping,
        "model": partial(model_state, model),
        "memory": partial(memory_state, config.memory, deadline_s=config.limits.probe_timeout_s),
    }
