import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from bus.identity import Authority
from cluster import probe
from cluster.addresses import Addresses
from cluster.assembly import assemble, trust_in, trust_of
from cluster.errors import PartFailed, PortTaken
from cluster.home import Home, open_home
from cluster.parts.part import Part
from cluster.parts.server import Server
from cluster.settings import Settings
from tests.integration.cluster.conftest import Configure, until

pytestmark = pytest.mark.timeout(400)


class Running:
    """The parts of one assembly by name, and their addresses."""

    def __init__(self, parts: dict[str, Part], addresses: Callable[[], Addresses]) -> None:
        self.parts = parts
        self.addresses = addresses

    def server(self, name: str) -> Server:
        part = self.parts[name]
        assert isinstance(part, Server)
        return part


@asynccontextmanager
async def _running(settings: Settings, *names: str) -> AsyncIterator[Running]:
    home = open_home(settings.home)
    made = assemble(settings, home, trust_in(home))
    parts = {part.name: part for part in made.parts}
    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(parts[name].start())
        yield Running(parts, made.addresses)
    finally:
        await asyncio.gather(*(part.stop() for part in made.parts))


async def test_the_embedded_servers_start_answer_and_stop(home: Home, configure: Configure) -> None:
    async with _running(configure(home), "nats", "postgres", "redis", "qdrant") as running:
        addresses = running.addresses()
        assert (await probe.nats(addresses.nats)).startswith("NATS 2")
        assert await probe.postgres(addresses.database) == "accepts logins"
        assert await probe.redis(addresses.redis) == "answers PING"
        assert await running.parts["qdrant"].probe() == "local mode, empty"
        pids = [running.server(name).pid for name in ("nats", "postgres", "redis")]
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_postgres_keeps_its_data_and_lets_only_our_role_in(
    home: Home, configure: Configure
) -> None:
    async with _running(configure(home), "postgres") as running:
        url = running.addresses().database
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        assert await connection.fetchval("SELECT usesuper FROM pg_user WHERE usename='swarm'") is (
            False
        )
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url, password="wrong")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(url, user="postgres", database="postgres")
    async with _running(configure(home), "postgres") as running:
        connection = await asyncpg.connect(running.addresses().database)
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()


async def test_an_interrupted_first_start_of_postgres_is_begun_anew(
    home: Home, configure: Configure
) -> None:
    draft = open_home(home.root).postgres / "draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18")
    async with _running(configure(home), "postgres") as running:
        assert await probe.postgres(running.addresses().database) == "accepts logins"


async def test_a_lock_file_of_a_dead_postgres_with_a_reused_pid_does_not_stop_a_start(
    home: Home, configure: Configure
) -> None:
    async with _running(configure(home), "postgres"):
        pass
    lock = home.postgres / "data" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{home.postgres / 'data'}\n0\n1\n\n\n\n")
    async with _running(configure(home), "postgres") as running:
        assert await probe.postgres(running.addresses().database) == "accepts logins"


@pytest.mark.parametrize("name", ["nats", "postgres", "redis"])
async def test_a_killed_server_comes_back_on_the_same_port(
    home: Home, configure: Configure, name: str
) -> None:
    async with _running(configure(home), name) as running:
        server = running.server(name)
        port, pid = server.port, server.pid
        assert pid is not None
        watch = asyncio.create_task(server.watch())
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid != pid, f"{name} did not come back")
        assert server.port == port
        await server.probe()
        watch.cancel()
        await asyncio.wait({watch})


async def test_what_postgres_stored_before_it_was_killed_is_there_afterwards(
    home: Home, configure: Configure
) -> None:
    async with _running(configure(home), "postgres") as running:
        server = running.server("postgres")
        connection = await asyncpg.connect(running.addresses().database)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server.pid
        assert pid is not None
        watch = asyncio.create_task(server.watch())
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid != pid, "postgres did not come back")
        with suppress(asyncpg.PostgresError, OSError):
            await connection.close()
        connection = await asyncpg.connect(running.addresses().database)
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()
        watch.cancel()
        await asyncio.wait({watch})


@pytest.mark.parametrize(
    ("name", "field", "variable"),
    [
        ("nats", "nats_port", "SWARM_NATS_PORT"),
        ("postgres", "postgres_port", "SWARM_POSTGRES_PORT"),
        ("redis", "redis_port", "SWARM_REDIS_PORT"),
        ("gateway", "gateway_port", "SWARM_GATEWAY_PORT"),
    ],
)
async def test_a_port_in_use_is_an_error_that_names_part_port_and_variable(
    home: Home, configure: Configure, name: str, field: str, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        settings = configure(home, **{field: port})
        with pytest.raises((PortTaken, ExceptionGroup)) as caught:
            async with _running(settings, name):
                pass
    error: BaseException = caught.value
    if isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PortTaken)
    assert f"{name} cannot listen on port {port}" in str(error)
    assert variable in str(error)


async def test_a_configuration_that_nats_refuses_is_told_in_its_own_words(
    home: Home, configure: Configure
) -> None:
    opened = open_home(home.root)
    trust = replace(trust_of(Authority.create()), operator_jwt="not-a-token")
    nats = next(
        p for p in assemble(configure(home), opened, lambda: trust).parts if p.name == "nats"
    )
    with pytest.raises(PartFailed) as caught:
        await nats.start()
    assert "operator" in str(caught.value).lower()
    assert str(home.log("nats")) in str(caught.value)


async def test_a_damaged_postgres_is_reported_with_the_end_of_its_log(
    home: Home, configure: Configure
) -> None:
    async with _running(configure(home), "postgres"):
        pass
    (home.postgres / "data" / "global" / "pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(ExceptionGroup) as caught:
        async with _running(configure(home), "postgres"):
            pass
    error = caught.value.exceptions[0]
    assert isinstance(error, PartFailed)
    assert "It looks like you need to initdb" in str(error)
    assert str(home.log("postgres")) in str(error)


async def test_an_external_server_that_is_down_is_named_with_its_variable_not_its_password(
    home: Home, configure: Configure
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    settings = configure(home, database_url=f"postgresql://me:hunter2@127.0.0.1:{port}/swarm")
    with pytest.raises(ExceptionGroup) as caught:
        async with _running(settings, "postgres"):
            pass
    error = caught.value.exceptions[0]
    assert isinstance(error, PartFailed)
    assert "DATABASE_URL" in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert "hunter2" not in str(error)


async def test_external_servers_are_used_and_left_running(
    home: Home, configure: Configure, tmp_path: Path
) -> None:
    other = open_home(tmp_path / "other")
    async with _running(configure(other), "nats", "postgres", "redis") as theirs:
        addresses = theirs.addresses()
        settings = configure(
            home,
            nats_url=addresses.nats,
            database_url=addresses.database,
            redis_url=addresses.redis,
        )
        async with _running(settings, "nats", "postgres", "redis") as ours:
            assert ours.addresses().database == addresses.database
        assert await probe.redis(addresses.redis) == "answers PING"


async def test_secrets_and_configurations_are_readable_by_the_owner_only(
    home: Home, configure: Configure
) -> None:
    async with _running(configure(home), "nats", "postgres", "redis"):
        pass
    files = [
        p for folder in (home.keys, home.nats, home.valkey, home.logs) for p in folder.iterdir()
    ]
    assert len(files) >= 8
    assert [p.name for p in files if p.is_file() and p.stat().st_mode & 0o077] == []
