"""How the application is put together: its life, its place in Ray Serve, its outermost layer."""

import gc
import pickle
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Scope

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from actors.member import Domain, Enrolment
from bus.errors import BusUnreachable, PublishConflict, SwarmError
from serve import problems
from serve.app import create_app, create_late_app
from serve.errors import ModelRefused, UnknownProfile
from serve.gateway import NAME, Gateway, build_gateway_app
from serve.gateway_parts import GatewayConfig
from serve.ports import GatewayParts
from serve.problems import RequestRefused, refusal_of
from tests.unit.serve.fakes import BASE_URL, Fakes


async def issue(enrolment: Enrolment, public_key: str) -> str:
    return f"{enrolment.name}{public_key}"


async def unlock(
    enrolment: Enrolment,
    public_key: str,
    subject: str,
    to_seal: bool,  # noqa: FBT001 - of type Unlock
) -> bytes | None:
    return f"{enrolment.name}{public_key}{subject}".encode() if to_seal else None


CONFIG = GatewayConfig(
    domain=Domain(nats_url="nats://127.0.0.1:1", operator_public_key="O", account_jwt="J"),
    enrolment=Enrolment(role="gateway", name="gateway-1", proof="sesame-proof"),
    issue=issue,
    unlock=unlock,
    database_url="postgresql://u:sesame@127.0.0.1/db",
    redis_url="redis://:sesame@127.0.0.1/0",
    token_key=Path("/nowhere/token.pem"),
    attempt_key=b"sesame of names",
    model_name="m",
    log_key_jwt="",
)


def test_the_configuration_travels_and_keeps_its_secrets_to_itself() -> None:
    assert pickle.loads(pickle.dumps(CONFIG)) == CONFIG  # noqa: S301 - our own
    assert "sesame" not in repr(CONFIG)


def test_the_deployment_takes_no_core_and_many_streams() -> None:
    application = build_gateway_app(CONFIG)
    deployment = application._bound_deployment
    assert deployment.name == NAME
    assert deployment.num_replicas == 1
    assert deployment.max_ongoing_requests == 1_000
    assert deployment.ray_actor_options is not None
    assert deployment.ray_actor_options["num_cpus"] == 0


class Opened:
    """Parts that note whether they are open."""

    def __init__(self) -> None:
        self.open = False

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[GatewayParts, None]:
        self.open = True
        yield Fakes().parts()
        self.open = False


async def test_parts_are_open_for_the_life_of_the_application() -> None:
    opened = Opened()
    app = Gateway(opened).__serve_build_asgi_app__()
    assert not opened.open
    async with app.router.lifespan_context(app):
        assert opened.open
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            live = await client.get("/health/live")
            assert live.json()["status"] == "live"
            assert "x-request-id" not in live.headers
            assert (await client.get("/v1/models")).status_code == 401
    assert not opened.open


async def test_parts_that_cannot_be_opened_keep_the_application_from_starting() -> None:
    @asynccontextmanager
    async def broken() -> AsyncGenerator[GatewayParts, None]:
        raise BusUnreachable
        yield

    app = create_late_app(broken, patience_s=0)
    with pytest.raises(BusUnreachable):
        async with app.router.lifespan_context(app):
            pass


async def test_parts_that_do_not_answer_yet_are_waited_for() -> None:
    tries: list[str] = []
    opened = Opened()

    @asynccontextmanager
    async def at_the_second_try() -> AsyncGenerator[GatewayParts, None]:
        tries.append("try")
        if len(tries) == 1:
            raise BusUnreachable
        async with opened() as parts:
            yield parts

    app = create_late_app(at_the_second_try)
    async with app.router.lifespan_context(app):
        assert opened.open
    assert len(tries) == 2


async def test_what_stays_is_left_out_of_garbage_collection() -> None:
    """Else the gateway stands still for 100 ms now and then, to look through it."""
    gc.unfreeze()
    app = create_late_app(Opened())
    try:
        async with app.router.lifespan_context(app):
            assert gc.get_freeze_count() > 10_000
            assert len(gc.get_objects()) < gc.get_freeze_count() / 10
    finally:
        gc.unfreeze()


def scope(kind: str, **more: object) -> Scope:
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/auth/login",
        "raw_path": b"/auth/login",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        **more,
    }


async def run_app(kind: str, *messages: Message) -> list[Message]:
    sent: list[Message] = []
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await create_app(Fakes().parts())(scope(kind), receive, send)
    return sent


async def test_a_websocket_is_closed() -> None:
    sent = await run_app("websocket", {"type": "websocket.connect"})
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_client_that_leaves_in_the_middle_of_its_request_gets_no_answer() -> None:
    sent = await run_app(
        "http",
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    )
    assert sent == []


def every_refusal() -> list[type[RequestRefused]]:
    return [RequestRefused, *RequestRefused.__subclasses__()]


@pytest.mark.parametrize("kind", every_refusal())
def test_a_refusal_pickles_and_is_in_the_drawn_tree(kind: type[RequestRefused]) -> None:
    copy = pickle.loads(pickle.dumps(kind("why", headers={"a": "b"})))  # noqa: S301 - our own
    assert (type(copy), str(copy), copy.headers) == (kind, "why", {"a": "b"})
    drawn = [line.split()[:2] for line in (problems.__doc__ or "").splitlines()]
    assert [kind.__name__, str(int(kind.status))] in drawn


def test_codes_of_refusals_are_unique() -> None:
    codes = [kind.code for kind in every_refusal()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BusUnreachable("10.0.0.7"), 503),
        (PublishConflict("10.0.0.7"), 503),
        (TimeoutError("10.0.0.7"), 503),
        (ModelRefused("too long\nTraceback 10.0.0.7"), 422),
    ],
)
def test_an_error_becomes_a_refusal_without_its_internals(error: Exception, status: int) -> None:
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.status == status
    assert "10.0.0.7" not in str(refusal)


@pytest.mark.parametrize("error", [SwarmError(), UnknownProfile(), ValueError(), KeyError("x")])
def test_a_fault_of_ours_is_no_refusal(error: Exception) -> None:
    assert refusal_of(error) is None
