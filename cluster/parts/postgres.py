"""The embedded PostgreSQL server."""

import asyncio
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

import psutil

from cluster import binaries, probe
from cluster.errors import PartFailed
from cluster.home import Home, secret
from cluster.ports import LOOPBACK
from cluster.process import Child, ChildSpec, RunAs
from cluster.process_table import processes

_INIT_TIMEOUT_S = 120.0
_LEFTOVER_TIMEOUT_S = 10.0

ROLE = "swarm"
DATABASE = "swarm"

_SERVER_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path would have to be short
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """How postgres is started: one role and one database, no superuser that could log in."""

    home: Home
    environment: Mapping[str, str] = field(repr=False)
    name: str = "postgres"

    async def prepare(self, port: int) -> None:  # noqa: ARG002  the same data on every port
        """Make the database cluster once, and clear away what a killed server left.

        Raises:
            PartFailed: initdb failed, or another server uses the data.
        """
        if (self._data / "PG_VERSION").exists():
            await self._clear_leftovers()
            return
        draft = self.home.postgres / "draft"
        if draft.exists():  # an earlier attempt was interrupted
            await asyncio.to_thread(shutil.rmtree, draft)
        draft.mkdir(mode=0o700)
        run_as = unprivileged()
        if run_as is not None:
            for folder in (self.home.postgres, draft):
                os.chown(folder, run_as.user, run_as.group)
        await self._run("initdb", *_initdb_options(draft))
        (draft / "pg_hba.conf").write_text(
            f"host {DATABASE} {ROLE} {LOOPBACK}/32 scram-sha-256\n", encoding="ascii"
        )
        for database, statement in (
            ("postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.password()}'"),
            ("postgres", f"CREATE DATABASE {DATABASE} OWNER {ROLE}"),
        ):
            await self._run(
                "postgres", "--single", "-D", str(draft), database, statement=f"{statement}\n"
            )
        draft.rename(self._data)

    def command(self, port: int) -> ChildSpec:
        """The server on its data."""
        settings = {**_SERVER_SETTINGS, "port": str(port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._spec("postgres", "-D", str(self._data), *options)

    async def ready(self, port: int) -> str:
        """It asks for the password."""
        return await probe.postgres(self.url(port))

    def address(self, port: int) -> str:
        """The URL without the password."""
        return f"postgresql://{LOOPBACK}:{port}/{DATABASE}"

    def url(self, port: int) -> str:
        """The URL with role and password."""
        return f"postgresql://{ROLE}:{self.password()}@{LOOPBACK}:{port}/{DATABASE}"

    def password(self) -> str:
        """Made at the first start, kept in SWARM_HOME/keys; hexadecimal, so it needs no quoting."""
        return secret(self.home.keys / "postgres_password")

    @property
    def _data(self) -> Path:
        return self.home.postgres / "data"

    async def _run(self, program: str, *options: str, statement: str | None = None) -> None:
        child = await Child.start(self._spec(program, *options, statement=statement))
        await child.succeed(deadline_s=_INIT_TIMEOUT_S)

    def _spec(self, program: str, *options: str, statement: str | None = None) -> ChildSpec:
        return ChildSpec(
            name=self.name,
            command=[str(binaries.postgres_folder() / program), *options],
            environment=self.environment,
            folder=self.home.postgres,
            log=self.home.log(self.name),
            death_signal=Signals.SIGQUIT,  # immediate, but it frees its shared memory
            run_as=unprivileged(),
            input=None if statement is None else statement.encode(),
        )

    async def _clear_leftovers(self) -> None:
        """End what outlived a killed server or supervisor, and remove the server's lock file.

        The caller holds the lock on the home, so no swarm uses that data any more. The lock file
        keeps two servers apart; without it, a process of the old one that still writes would
        spoil the data under the new one. So first all of them end, a postmaster or not: each has
        the data for its working directory.
        """
        left = await asyncio.to_thread(_processes_in, self._data)
        for number in (Signals.SIGQUIT, Signals.SIGKILL):
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            _, left = await asyncio.to_thread(psutil.wait_procs, left, _LEFTOVER_TIMEOUT_S)
        if left:
            raise PartFailed(f"postgres: {len(left)} processes of an earlier server do not end.")
        (self._data / "postmaster.pid").unlink(missing_ok=True)


def unprivileged() -> RunAs | None:
    """Under which user Postgres runs when we are root, as which it refuses to run.

    Raises:
        PartFailed: we are root and there is no other user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return RunAs(user=entry.pw_uid, group=entry.pw_gid)
    raise PartFailed(
        "postgres cannot run as root, and there is neither a user postgres nor nobody. "
        "Run the swarm as another user, or set DATABASE_URL."
    )


def _initdb_options(data: Path) -> Sequence[str]:
    return (
        *("-D", str(data)),
        *("--username", "postgres"),
        *("--auth", "reject"),
        *("--encoding", "UTF8"),
        *("--locale", "C.UTF-8"),
        "--no-instructions",
    )


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Every process whose working directory it is; the titles of Postgres's say little."""
    found = []
    for process in processes():
        with suppress(psutil.Error, OSError):
            if process.cwd() == str(folder):
                found.append(process)
    return found
