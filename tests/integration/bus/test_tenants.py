"""A tenant's account on a real broker: it reads its own runs with plain tools, and no others."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from bus.claims import tell_broker
from bus.connection import Connection
from bus.errors import BusUnreachable
from bus.event import Event
from bus.identity import Authority, credentials_file
from bus.ring import with_revoked, with_tenant
from bus.subjects import STREAM, run_filter, run_of, subject_for, tenant_filter
from bus.tenants import tenant_key
from bus.trust_payloads import IdentityRevoked
from cluster.tenants import TenantAccess, access_of
from tests.broker import Broker
from tests.integration.bus.test_log import submitted

ACME, OTHER = run_of("acme", "r1"), run_of("umbrella", "r1")
PLAIN = "r0123"
LIFE = timedelta(hours=1)


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker with two tenants, and a run of each and of nobody's."""
    made = Authority.create()
    ring = with_tenant(with_tenant(made.ring, "acme"), "umbrella")
    broker = Broker(tmp_path_factory.mktemp("tenants"), authority=Authority(ring, made.keys))
    await broker.start()
    await broker.provision()
    async with broker.joined("gateway") as gateway:
        for run in (ACME, OTHER, PLAIN):
            await gateway.append(submitted(run))
    yield broker
    await broker.stop()


@pytest.fixture
def access(broker: Broker) -> TenantAccess:
    return access_of(broker.authority, "acme", ttl=LIFE)


@asynccontextmanager
async def connected(
    broker: Broker,
    access: TenantAccess,
    directory: Path,
    errors: asyncio.Queue[str] | None = None,
    inbox: str = "",
) -> AsyncIterator[Client]:
    path = directory / "tenant.creds"
    path.write_text(credentials_file(access.credential, access.key))

    async def note(error: Exception) -> None:
        if errors is not None:
            await errors.put(str(error))

    client = await nats.connect(
        broker.url,
        user_credentials=str(path),
        inbox_prefix=inbox or access.inbox,
        error_cb=note,
        allow_reconnect=False,
    )
    try:
        yield client
    finally:
        await client.close()


async def denied(errors: asyncio.Queue[str], what: str) -> None:
    async with asyncio.timeout(20):
        while re.search(f"permissions violation for {what}", await errors.get()) is None:
            continue


async def test_it_reads_what_is_said_in_its_own_runs(
    broker: Broker, access: TenantAccess, tmp_path: Path
) -> None:
    async with connected(broker, access, tmp_path) as client:
        name = access.consumers[0]
        config = ConsumerConfig(name=name, filter_subject=tenant_filter("acme"))
        await client.jsm().add_consumer(STREAM, config)
        pulled = await client.jetstream().pull_subscribe_bind(name, STREAM)
        (first,) = await pulled.fetch(1, timeout=5)
        pushed = await client.jetstream().subscribe(
            run_filter(ACME),
            stream=STREAM,
            config=ConsumerConfig(
                name=access.consumers[1],
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE,
            ),
        )
        second = await pushed.next_msg(timeout=5)
        for subscription in (pulled, pushed):
            with pytest.raises(nats.errors.TimeoutError):
                await (
                    subscription.fetch(1, timeout=0.3)
                    if subscription is pulled
                    else pushed.next_msg(timeout=0.3)
                )
    for message in (first, second):
        assert Event.parse(message.subject, message.headers, message.data).run == ACME


async def test_the_last_event_on_a_subject_of_its_own_is_there_for_the_asking(
    broker: Broker, access: TenantAccess, tmp_path: Path
) -> None:
    subject = subject_for(ACME, "swarm.run.submitted.v1")
    async with connected(broker, access, tmp_path) as client:
        answer = await client.request(f"$JS.API.DIRECT.GET.{STREAM}.{subject}", b"", timeout=5)
    assert (answer.headers or {})["Nats-Subject"] == subject


@pytest.mark.parametrize(
    "wanted", [run_filter(OTHER), run_filter(PLAIN), "evt.>", "evt.*.*.run.submitted", ">"]
)
async def test_it_has_no_consumer_of_what_is_not_its_own(
    broker: Broker, access: TenantAccess, tmp_path: Path, wanted: str
) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with connected(broker, access, tmp_path, errors) as client:
        with pytest.raises(nats.errors.TimeoutError):
            await client.jsm(timeout=0.5).add_consumer(
                STREAM,
                ConsumerConfig(name=access.consumers[0], filter_subject=wanted),
            )
        await denied(errors, "publish")


@pytest.mark.parametrize(
    "filters",
    [
        {"filter_subject": run_filter(OTHER)},
        {"filter_subjects": [run_filter(OTHER)]},
        {"filter_subject": run_filter(ACME), "filter_subjects": [run_filter(OTHER)]},
        {},
    ],
)
async def test_a_filter_in_the_body_does_not_widen_the_one_in_the_subject(
    broker: Broker, access: TenantAccess, tmp_path: Path, filters: dict[str, object]
) -> None:
    name = access.consumers[0]
    request = {
        "stream_name": STREAM,
        "config": {"name": name, "ack_policy": "none", "deliver_policy": "all", **filters},
    }
    subject = f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}.{run_filter(ACME)}"
    async with connected(broker, access, tmp_path) as client:
        answer = json.loads(
            (await client.request(subject, json.dumps(request).encode(), timeout=5)).data
        )
    assert "error" in answer, answer


async def test_it_touches_no_consumer_but_its_own(
    broker: Broker, access: TenantAccess, tmp_path: Path
) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    other = access_of(broker.authority, "acme", ttl=LIFE).consumers[0]
    async with connected(broker, access, tmp_path, errors) as client:
        for consumer in ("work-coder", other):
            for verb in ("MSG.NEXT", "INFO", "DELETE"):
                with pytest.raises(nats.errors.TimeoutError):
                    await client.request(
                        f"$JS.API.CONSUMER.{verb}.{STREAM}.{consumer}", b"", timeout=0.3
                    )
                await denied(errors, "publish")


@pytest.mark.parametrize(
    "subject",
    [
        subject_for(ACME, "swarm.run.submitted.v1"),
        subject_for(PLAIN, "swarm.run.submitted.v1"),
        f"$JS.API.STREAM.INFO.{STREAM}",
        f"$JS.API.STREAM.DELETE.{STREAM}",
        f"$JS.API.DIRECT.GET.{STREAM}",
        f"$JS.API.DIRECT.GET.{STREAM}.{subject_for(OTHER, 'swarm.run.submitted.v1')}",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_it_says_nothing_and_asks_nothing_else(
    broker: Broker, access: TenantAccess, tmp_path: Path, subject: str
) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with connected(broker, access, tmp_path, errors) as client:
        with pytest.raises(nats.errors.TimeoutError):
            await client.request(subject, b'{"seq": 1}', timeout=0.3)
        await denied(errors, "publish")


async def test_it_hears_nothing_but_at_its_own_inbox(
    broker: Broker, access: TenantAccess, tmp_path: Path
) -> None:
    for subject in (">", "evt.>", "_INBOX.>", "_INBOX.t-acme.>", "_INBOX.t-acme.UOTHER.x"):
        errors: asyncio.Queue[str] = asyncio.Queue()
        async with connected(broker, access, tmp_path, errors) as client:
            await client.subscribe(subject)
            await denied(errors, "subscription")


async def test_an_account_that_was_signed_for_one_tenant_reads_nothing_of_another(
    broker: Broker, tmp_path: Path
) -> None:
    """Even with permissions for all: what is not imported is not there."""
    acme = access_of(broker.authority, "acme", ttl=LIFE)
    wide = broker.authority._sign(
        acme.key.public,
        role="tenant",
        name="wide",
        permissions=replace(
            broker.policy.permissions("observer", acme.key.public),
            publish=(">",), subscribe=(">",), deny_publish=(),
        ),
        ttl=LIFE,
        account=acme.credential.account,
        signer=tenant_key(broker.authority.keys[broker.authority.ring.log], "acme"),
    )  # fmt: skip
    async with connected(broker, replace(acme, credential=wide), tmp_path) as client:
        with pytest.raises((nats.errors.NoRespondersError, nats.errors.TimeoutError, APIError)):
            await client.jsm(timeout=0.5).add_consumer(
                STREAM, ConsumerConfig(name="wide", filter_subject=run_filter(OTHER))
            )
        heard = await client.subscribe("evt.>")
        async with broker.joined("gateway", "gateway-2") as gateway:
            await gateway.append(submitted(run_of("acme", "r2")))
        with pytest.raises(nats.errors.TimeoutError):
            await heard.next_msg(timeout=0.3)


async def test_a_revoked_key_of_a_tenant_is_cut_off(
    broker: Broker, access: TenantAccess, tmp_path: Path
) -> None:
    revoked = IdentityRevoked(
        role="tenant", name="x", public_key=access.key.public, requested_by="vic"
    )
    authority = broker.authority
    ring = with_revoked(authority.ring, authority.root_key, (revoked,), now=2_000_000_000)
    async with connected(broker, access, tmp_path) as client:
        await tell_broker(broker.url, Authority(ring, authority.keys), tenant="acme")
        async with asyncio.timeout(20):
            while not client.is_closed:  # noqa: ASYNC110 - nats-py tells nobody
                await asyncio.sleep(0.02)
    with pytest.raises(BusUnreachable):
        await Connection.open(
            broker.url, access.key, access.credential, inbox=access.inbox, deadline_s=1
        )


async def test_members_take_no_event_of_a_tenants_key(broker: Broker, access: TenantAccess) -> None:
    assert access.credential.account != broker.authority.account_public_key
    assert broker.policy.permissions("tenant", access.key.public).publish == ()


async def test_a_key_that_is_revoked_while_nobody_of_its_tenant_is_there_is_out(
    tmp_path: Path,
) -> None:
    """A broker that has not loaded the account passes over what it is told of it."""
    made = Authority.create()
    authority = Authority(with_tenant(made.ring, "acme"), made.keys)
    broker = Broker(tmp_path, authority=authority)
    await broker.start()
    try:
        access = access_of(authority, "acme", ttl=LIFE)
        revoked = IdentityRevoked(
            role="tenant", name="x", public_key=access.key.public, requested_by="vic"
        )
        ring = with_revoked(authority.ring, authority.root_key, (revoked,), now=2_000_000_000)
        await tell_broker(broker.url, Authority(ring, authority.keys), tenant="acme")
        with pytest.raises(BusUnreachable):
            await Connection.open(
                broker.url, access.key, access.credential, inbox=access.inbox, deadline_s=1
            )
    finally:
        await broker.stop()


async def test_a_broker_that_never_heard_of_a_tenant_is_told_in_vain(tmp_path: Path) -> None:
    made = Authority.create()
    broker = Broker(tmp_path, authority=made)
    await broker.start()
    try:
        known = Authority(with_tenant(made.ring, "acme"), made.keys)
        await tell_broker(broker.url, known, tenant="acme")
    finally:
        await broker.stop()
