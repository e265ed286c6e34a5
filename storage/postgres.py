"""Postgres: a connection pool, translated errors and schema migrations."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import structlog

from storage.errors import MigrationError, StorageError, StorageRefused, StorageUnavailable
from storage.fair_pool import FairPool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.pool.PoolConnectionProxy

log = structlog.get_logger()

MIGRATION_LOCK = 0x5377_4172_4D01
"""Advisory lock that one migrating process holds; a number of our own."""
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_CREATE_TABLE = """
create table if not exists schema_migrations (
    version    integer primary key,
    name       text not null,
    sha256     text not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turns what the driver raises into the StorageError that it means.

    The message keeps the server's first line only: the detail below it may
    quote stored values.

    Args:
        action: what was being done, to complete "could not ...".

    Raises:
        StorageUnavailable: no connection, a timeout, a deadlock, a server
            that is starting, stopping or out of resources; the call may be repeated.
        StorageRefused: every other error of the server or the driver.
    """
    try:
        yield
    except StorageError:
        raise
    except TimeoutError as error:
        message = f"Postgres: could not {action} in time."
        raise StorageUnavailable(message) from error
    except (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.OperatorInterventionError,
        asyncpg.TransactionRollbackError,
        asyncpg.InsufficientResourcesError,
        asyncpg.LockNotAvailableError,
        asyncpg.InternalClientError,  # how a COPY ends whose connection was cut
    ) as error:
        raise StorageUnavailable(_sentence(action, error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        lost = isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)
        kind = StorageUnavailable if lost else StorageRefused
        raise kind(_sentence(action, error)) from error


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    connect_timeout_s: float = 10.0,
    command_timeout_s: float = 30.0,
) -> AsyncIterator[Pool]:
    """A pool of connections, closed at the end; a failed connection shows at once.

    Args:
        dsn: address, ``postgresql://user:password@host:port/database``.
        min_size: connections kept open.
        max_size: most connections at once; a caller beyond it waits.
        connect_timeout_s: for opening the pool and each later connection.
        command_timeout_s: for each statement that gives no timeout of its own.

    Raises:
        StorageUnavailable: the server does not answer.
        StorageRefused: it does not accept the credentials or the database name.
    """
    with translated("connect"):
        async with asyncio.timeout(connect_timeout_s):
            pool = await FairPool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                connect_timeout_s=connect_timeout_s,
                command_timeout_s=command_timeout_s,
            )
    try:
        yield pool
    finally:
        await _close(pool, connect_timeout_s)


async def _close(pool: Pool, deadline_s: float) -> None:
    """Lets running statements end, up to the deadline, then drops the connections."""
    try:
        async with asyncio.timeout(deadline_s):
            await pool.close()
    except TimeoutError:
        log.warning("postgres.pool.dropped", deadline_s=deadline_s)
        pool.terminate()


async def ping(pool: Pool, *, deadline_s: float = 2.0) -> None:
    """Returns if Postgres answers.

    Raises:
        StorageUnavailable: it does not, within the deadline.
    """
    with translated("ping"):
        async with asyncio.timeout(deadline_s):
            await pool.fetchval("select 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema, as shipped: its number, its name and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hex digest of the SQL, by which a changed file is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def bundled_migrations() -> tuple[Migration, ...]:
    """The migrations in storage/migrations, in order.

    Raises:
        MigrationError: a file name does not fit, or a number is missing or double.
    """
    found: list[Migration] = []
    for file in (resources.files("storage") / "migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            message = f"{file.name} is not named like 0001_what_it_does.sql."
            raise MigrationError(message)
        sql = file.read_text(encoding="utf-8")
        found.append(Migration(version=int(match[1]), name=match[2], sql=sql))
    found.sort(key=lambda migration: migration.version)
    check_numbering(found)
    return tuple(found)


def check_numbering(migrations: Sequence[Migration]) -> None:
    """Accepts migrations numbered 1, 2, 3 and so on.

    Raises:
        MigrationError: a number is missing or given twice.
    """
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            message = (
                f"Migration {expected:04} is missing or given twice:"
                f" {migration.version:04}_{migration.name} stands in its place."
            )
            raise MigrationError(message)


def pending(
    migrations: Sequence[Migration], applied: Sequence[tuple[int, str, str]]
) -> tuple[Migration, ...]:
    """What is left to apply, given the (version, name, sha256) of what was.

    Raises:
        MigrationError: the database holds a migration that this program does
            not know or knows with other content, or lacks an earlier one.
    """
    known = {migration.version: migration for migration in migrations}
    for position, (version, name, sha256) in enumerate(sorted(applied), start=1):
        if version not in known:
            message = (
                f"The database has migration {version:04}_{name}, newer than this program,"
                f" which knows {len(known)}: upgrade the program."
            )
            raise MigrationError(message)
        if version != position:
            message = f"The database has migration {version:04} but not {position:04}."
            raise MigrationError(message)
        if sha256 != known[version].sha256:
            message = (
                f"Migration {version:04}_{name} was changed after it had been applied:"
                f" the database has {sha256[:12]}, this program {known[version].sha256[:12]}."
            )
            raise MigrationError(message)
    return tuple(migrations[len(applied) :])


async def migrate(
    pool: Pool,
    *,
    migrations: Sequence[Migration] | None = None,
    lock_timeout_s: float = 60.0,
    migration_timeout_s: float = 300.0,
) -> tuple[str, ...]:
    """Brings the schema up to date; several processes may do so at once.

    Each migration runs in a transaction of its own together with its record,
    so a crash leaves it either applied and recorded or neither. The lock is a
    session lock: the address must not be a transaction-pooling proxy.

    Args:
        pool: where; one connection is used.
        migrations: other ones than those shipped.
        lock_timeout_s: wait for another process that is migrating.
        migration_timeout_s: for each migration.

    Returns:
        The names of the migrations applied by this call.

    Raises:
        MigrationError: the database does not fit, or a migration failed.
        StorageUnavailable: no answer, or the lock was not free in time.
    """
    steps = bundled_migrations() if migrations is None else migrations
    check_numbering(steps)
    with translated("migrate the schema"):
        async with pool.acquire(timeout=lock_timeout_s) as connection:
            try:
                await connection.execute(
                    "select pg_advisory_lock($1)", MIGRATION_LOCK, timeout=lock_timeout_s
                )
                applied = await _apply_pending(connection, steps, migration_timeout_s)
                await connection.execute("select pg_advisory_unlock($1)", MIGRATION_LOCK)
            except BaseException:
                connection.terminate()  # its lock ends with it, wherever this was interrupted
                raise
            return applied


async def _apply_pending(
    connection: Connection, steps: Sequence[Migration], timeout_s: float
) -> tuple[str, ...]:
    await connection.execute(_CREATE_TABLE)
    rows = await connection.fetch("select version, name, sha256 from schema_migrations")
    todo = pending(steps, [(row["version"], row["name"], row["sha256"]) for row in rows])
    for step in todo:
        try:
            async with connection.transaction():
                await connection.execute(step.sql, timeout=timeout_s)
                await connection.execute(
                    "insert into schema_migrations (version, name, sha256) values ($1, $2, $3)",
                    step.version,
                    step.name,
                    step.sha256,
                )
        except asyncpg.PostgresError as error:
            message = f"Migration {step.version:04}_{step.name} failed: {_first_line(error)}."
            raise MigrationError(message) from error
        log.info("postgres.migrated", version=step.version, name=step.name)
    return tuple(f"{step.version:04}_{step.name}" for step in todo)


def _sentence(action: str, error: BaseException) -> str:
    return f"Postgres: could not {action}: {_first_line(error)}."


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
