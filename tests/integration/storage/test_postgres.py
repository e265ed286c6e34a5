"""The pool and the migrations, on a real Postgres."""

import asyncio

import asyncpg
import pytest

from storage.errors import MigrationError, StorageRefused, StorageUnavailable
from storage.postgres import Migration, bundled_migrations, migrate, open_pool, ping, translated
from tests.integration.storage.conftest import PostgresServer

ONE = Migration(version=1, name="one", sql="create table one (n int); insert into one values (1)")
TWO = Migration(version=2, name="two", sql="alter table one add column m int")
BROKEN = Migration(version=2, name="broken", sql="create table two (n int); select 1 / 0")


async def test_a_new_database_gets_every_migration_once(empty_dsn: str) -> None:
    async with open_pool(empty_dsn) as pool:
        names = await migrate(pool)
        assert names == tuple(f"{m.version:04}_{m.name}" for m in bundled_migrations())
        assert await migrate(pool) == ()
        rows = await pool.fetch("select * from schema_migrations order by version")
    assert [row["sha256"] for row in rows] == [m.sha256 for m in bundled_migrations()]
    assert all(row["applied_at"] is not None for row in rows)


async def test_processes_that_start_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    slow = Migration(version=1, name="slow", sql="create table one (n int); select pg_sleep(0.2)")
    async with open_pool(empty_dsn, max_size=6) as pool:
        results = await asyncio.gather(*(migrate(pool, migrations=[slow, TWO]) for _ in range(6)))
        assert max(results, key=len) == ("0001_slow", "0002_two")
        assert sum(len(names) for names in results) == 2
        assert await pool.fetchval("select count(*) from schema_migrations") == 2


async def test_later_migrations_are_added_to_an_older_database(empty_dsn: str) -> None:
    async with open_pool(empty_dsn) as pool:
        await migrate(pool, migrations=[ONE])
        assert await migrate(pool, migrations=[ONE, TWO]) == ("0002_two",)
        assert await pool.fetchval("select n from one where m is null") == 1


async def test_a_failed_migration_leaves_nothing_behind(empty_dsn: str) -> None:
    async with open_pool(empty_dsn) as pool:
        with pytest.raises(MigrationError, match=r"0002_broken failed: division by zero"):
            await migrate(pool, migrations=[ONE, BROKEN])
        assert await pool.fetchval("select to_regclass('two')") is None
        assert await pool.fetchval("select max(version) from schema_migrations") == 1
        assert await migrate(pool, migrations=[ONE, TWO]) == ("0002_two",)


async def test_a_changed_migration_is_refused(empty_dsn: str) -> None:
    edited = Migration(version=1, name="one", sql=ONE.sql + " ")
    async with open_pool(empty_dsn) as pool:
        await migrate(pool, migrations=[ONE])
        with pytest.raises(MigrationError, match=r"0001_one was changed"):
            await migrate(pool, migrations=[edited, TWO])
        assert await pool.fetchval("select count(*) from schema_migrations") == 1


async def test_a_database_from_a_newer_program_is_refused(empty_dsn: str) -> None:
    async with open_pool(empty_dsn) as pool:
        await migrate(pool, migrations=[ONE, TWO])
        with pytest.raises(MigrationError, match=r"0002_two, newer than this program"):
            await migrate(pool, migrations=[ONE])


async def test_a_migration_that_another_process_holds_up_ends_in_unavailable(
    empty_dsn: str,
) -> None:
    async with open_pool(empty_dsn) as pool:
        async with pool.acquire() as other:
            await other.execute("select pg_advisory_lock($1)", 0x5377_4172_4D01)
            with pytest.raises(StorageUnavailable, match="in time"):
                await migrate(pool, lock_timeout_s=0.2)
            await other.execute("select pg_advisory_unlock($1)", 0x5377_4172_4D01)
        assert await migrate(pool)


async def test_a_use_costs_no_statement_but_its_own(dsn: str) -> None:
    async with open_pool(dsn, max_size=1) as pool, open_pool(dsn, max_size=1) as other:
        pid = await pool.fetchval("select pg_backend_pid()")
        last = await other.fetchval("select query from pg_stat_activity where pid = $1", pid)
    assert last == "select pg_backend_pid()"


async def test_a_transaction_that_was_broken_off_leaves_nothing_to_the_next(dsn: str) -> None:
    begun = asyncio.Event()
    async with open_pool(dsn, max_size=1) as pool:
        await pool.execute("create temporary table left_over (n int)")

        async def break_off() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("insert into left_over values (1)")
                begun.set()
                await connection.execute("select pg_sleep(60)")

        task = asyncio.create_task(break_off())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("select count(*) from left_over") == 0


async def test_a_migration_that_is_cancelled_gives_its_lock_back(empty_dsn: str) -> None:
    endless = Migration(version=1, name="endless", sql="select pg_sleep(60)")
    async with open_pool(empty_dsn) as pool, open_pool(empty_dsn) as other:
        task = asyncio.create_task(migrate(pool, migrations=[endless]))
        query = "select count(*) from pg_locks where locktype = 'advisory' and granted"
        async with asyncio.timeout(10):
            while not await other.fetchval(query):  # noqa: ASYNC110 - nobody calls
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await migrate(pool, migrations=[ONE], lock_timeout_s=10) == ("0001_one",)


async def test_a_server_that_does_not_listen_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable, match="could not connect"):
        async with open_pool("postgresql://nobody@127.0.0.1:1/none"):
            pytest.fail("connected to nothing")


async def test_a_database_that_does_not_exist_is_refused(
    postgres: PostgresServer,
) -> None:
    with pytest.raises(StorageRefused, match="does not exist"):
        async with open_pool(postgres.get_uri("nowhere")):
            pytest.fail("connected to a database that does not exist")


async def test_a_command_that_takes_too_long_is_unavailable(dsn: str) -> None:
    async with open_pool(dsn, command_timeout_s=1.0) as pool:
        with (
            pytest.raises(StorageUnavailable, match="could not sleep in time"),
            translated("sleep"),
        ):
            await pool.execute("select pg_sleep(10)")
        await ping(pool)


async def test_a_connection_that_the_server_ends_is_unavailable(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        with pytest.raises(StorageUnavailable), translated("look"):
            await pool.execute("select pg_terminate_backend(pg_backend_pid())")
        await ping(pool)


async def test_stored_values_do_not_get_into_messages(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        await pool.execute("create table t (secret text unique); insert into t values ('s3cret')")
        with pytest.raises(StorageRefused) as caught, translated("insert"):
            await pool.execute("insert into t values ('s3cret')")
        assert isinstance(caught.value.__cause__, asyncpg.UniqueViolationError)
        assert "s3cret" not in str(caught.value)


async def test_a_closed_pool_is_unavailable(dsn: str) -> None:
    async with open_pool(dsn) as pool:
        pass
    with pytest.raises(StorageUnavailable):
        await ping(pool)
