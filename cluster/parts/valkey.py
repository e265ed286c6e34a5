"""The embedded Valkey server, which speaks the Redis protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals
from urllib.parse import quote

from cluster import binaries, probe
from cluster.home import Home, secret, write_private
from cluster.ports import LOOPBACK
from cluster.process import ChildSpec

MAX_MEMORY = "256mb"
"""A cache, session state and rate limits: least recently used entries go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """How valkey-server is started: with a password, without persistence."""

    home: Home
    environment: Mapping[str, str] = field(repr=False)
    name: str = "redis"

    async def prepare(self, port: int) -> None:
        """Write the configuration."""
        lines = [
            f"bind {LOOPBACK}",
            f"port {port}",
            "protected-mode yes",
            f"requirepass {self.password()}",
            'save ""',  # what it holds can be rebuilt from Postgres
            "appendonly no",
            f"maxmemory {MAX_MEMORY}",
            "maxmemory-policy allkeys-lru",
            f'dir "{self.home.valkey}"',
            "daemonize no",
            'logfile ""',
        ]
        write_private(self.home.valkey / "valkey.conf", "\n".join([*lines, ""]).encode())

    def command(self, port: int) -> ChildSpec:  # noqa: ARG002  the configuration names the port
        """The server with that configuration."""
        return ChildSpec(
            name=self.name,
            command=[str(binaries.valkey_server()), str(self.home.valkey / "valkey.conf")],
            environment=self.environment,
            folder=self.home.valkey,
            log=self.home.log(self.name),
            death_signal=Signals.SIGTERM,
        )

    async def ready(self, port: int) -> str:
        """It answers PING after the login."""
        return await probe.redis(self.url(port))

    def address(self, port: int) -> str:
        """The URL without the password."""
        return f"redis://{LOOPBACK}:{port}/0"

    def url(self, port: int) -> str:
        """The URL with the password."""
        return f"redis://:{quote(self.password(), safe='')}@{LOOPBACK}:{port}/0"

    def password(self) -> str:
        """Made at the first start, kept in SWARM_HOME/keys."""
        return secret(self.home.keys / "redis_password")
