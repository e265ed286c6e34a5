"""A real nats-server in operator mode, and identities that may connect to it."""

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from actors.authority import adopt, announcement, vouch
from bus.connection import Connection
from bus.identity import AUTHORITY_ROLE, LAUNCHER_ROLE, Authority, Credential
from bus.log import EventLog
from bus.nkey import AgentKey
from bus.provision import provision
from bus.signing import Sender
from bus.subject_keys import KeptKeys, keys_in
from bus.trust import TrustStore
from cluster import ports
from cluster.parts.nats import MAX_CONTROL_LINE_BYTES
from policies.capabilities import Capabilities, inbox_prefix, queue_name

SERVER = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"


STORE_BYTES = 1 << 28
"""As in the swarm: the stream may fill what the server may store."""


async def listening(port: int, *, deadline_s: float = 60.0) -> None:
    """Return once somebody answers on the port."""
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


@dataclass
class Broker:
    """One server with its store, and everything needed to join it."""

    directory: Path
    authority: Authority = field(default_factory=Authority.create)
    policy: Capabilities = field(default_factory=Capabilities.shipped)
    port: int = field(default_factory=ports.drawn)
    sync: str = "2m"
    """JetStream's sync_interval; its default loses little in a test."""
    process: asyncio.subprocess.Process | None = None

    @property
    def keys(self) -> KeptKeys:
        """Those of the people whom events are about, for one more process."""
        return keys_in(self.directory / "subjects")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        config = self.directory / "server.conf"
        config.write_text(
            json.dumps(
                {
                    "listen": f"127.0.0.1:{self.port}",
                    "max_control_line": MAX_CONTROL_LINE_BYTES,
                    "jetstream": {
                        "store_dir": str(self.directory / "store"),
                        "sync_interval": self.sync,
                        "max_file_store": STORE_BYTES,
                    },
                    "operator": self.authority.operator_jwt,
                    "system_account": self.authority.system_account_public_key,
                    "resolver": "MEMORY",
                    "resolver_preload": {
                        self.authority.account_public_key: self.authority.account_jwt_in_force,
                        self.authority.log_account_public_key: self.authority.log_account_jwt,
                        self.authority.system_account_public_key: self.authority.system_account_jwt,
                        **self.authority.tenant_accounts,
                    },
                }
            )
        )
        with (self.directory / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                SERVER, "-c", str(config), stdout=log, stderr=log
            )
        await listening(self.port)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        await self.process.wait()

    def credential(
        self, role: str, name: str, key: AgentKey, ttl: timedelta = timedelta(hours=1)
    ) -> Credential:
        return vouch(self.authority, self.policy, key.public, role=role, name=name, ttl=ttl)

    def trust(self) -> TrustStore:
        return TrustStore(self.authority.operator_public_key, self.authority.account_jwt)

    async def provision(self, *, lease_s: float = 2.0, max_bytes: int = STORE_BYTES) -> None:
        async with self.connected(LAUNCHER_ROLE) as (connection, _):
            await provision(
                connection,
                queues={role: queue_name(role) for role in self.policy.worker_roles},
                lease_s=lease_s,
                max_bytes=max_bytes,
            )

    @asynccontextmanager
    async def connected(
        self, role: str, name: str = "", key: AgentKey | None = None, **issue: timedelta
    ) -> AsyncIterator[tuple[Connection, Sender]]:
        key = key or AgentKey.generate()
        credential = self.credential(role, name or f"{role}-1", key, **issue)
        connection = await Connection.open(
            self.url, key, credential, inbox=inbox_prefix(key.public)
        )
        try:
            yield connection, Sender(key, credential, self.policy)
        finally:
            await connection.close()

    @asynccontextmanager
    async def joined(
        self, role: str, name: str = "", *, announce: bool = True, **issue: Any
    ) -> AsyncIterator[EventLog]:
        """An announced member of the swarm, with its event log."""
        async with AsyncExitStack() as stack:
            connection, sender = await stack.enter_async_context(
                self.connected(role, name, **issue)
            )
            keys = self.keys if self.policy.may_unseal(role) else None
            log = EventLog(connection, self.trust(), self.policy, sender, keys=keys, deadline_s=10)
            if announce:
                await self.announce(sender.credential)
            yield log

    async def announce(self, credential: Credential) -> None:
        async with self.connected(AUTHORITY_ROLE, "authority-1") as (connection, sender):
            log = EventLog(connection, self.trust(), self.policy, sender)
            await log.append(announcement(sender.credential))
            await adopt(log, self.policy)
            await log.append(announcement(credential))
