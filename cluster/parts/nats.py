"""The embedded NATS server with JetStream, in operator mode."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from cluster import binaries, ports, probe
from cluster.home import Home, write_private
from cluster.ports import LOOPBACK
from cluster.process import Child, ChildSpec

_CHECK_TIMEOUT_S = 10.0
MAX_PAYLOAD_BYTES = 1024 * 1024
"""Events over 256 KiB go to the object store; this leaves room for headers and for chunks."""

MAX_CONTROL_LINE_BYTES = 64 * 1024
"""A client's credential travels in one line, and names each subject that it may use: with the
server's default of 4 KiB a few roles more would keep members out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsTrust:
    """The public half of the swarm's identity: what the server needs to check users."""

    operator_jwt: str
    account_public_key: str
    account_jwt: str
    log_account_public_key: str
    log_account_jwt: str
    system_account_public_key: str
    system_account_jwt: str
    tenant_accounts: Mapping[str, str] = field(default_factory=dict)
    """Their JWTs by public key."""


@dataclass(slots=True, kw_only=True)
class Nats:
    """How nats-server is started."""

    home: Home
    environment: Mapping[str, str] = field(repr=False)
    trust: Callable[[], NatsTrust]
    """As it is now: keys are rotated."""
    sync: str
    """When JetStream calls fsync: "always" or "default"."""
    max_store_bytes: int
    name: str = "nats"
    monitor_port: int = 0
    _told: str = ""
    _tenants: frozenset[str] = frozenset()

    async def prepare(self, port: int) -> None:
        """Write the configuration, and have the server check it.

        Raises:
            PartFailed: the server does not accept it; with its reason.
        """
        if self.monitor_port in {0, port}:
            self.monitor_port = ports.free()
        write_private(self._configuration, self._text(port).encode())
        check = await Child.start(self._spec("-t"))
        await check.succeed(deadline_s=_CHECK_TIMEOUT_S)

    def command(self, port: int) -> ChildSpec:  # noqa: ARG002  the configuration names the port
        """The server with that configuration."""
        return self._spec()

    async def ready(self, port: int) -> str:
        """It greets, and says of itself that it is healthy, JetStream included."""
        greeting = await probe.nats(self.address(port))
        await probe.http(f"http://{LOOPBACK}:{self.monitor_port}/healthz")
        return greeting

    def address(self, port: int) -> str:
        """The URL for clients."""
        return f"nats://{LOOPBACK}:{port}"

    def is_outdated(self) -> bool:
        """Whether it has to be started anew: operators and new accounts are not learnt before."""
        trust = self.trust()
        return trust.operator_jwt != self._told or not trust.tenant_accounts.keys() <= self._tenants

    @property
    def _configuration(self) -> Path:
        return self.home.nats / "nats.conf"

    def _spec(self, *options: str) -> ChildSpec:
        return ChildSpec(
            name=self.name,
            command=[str(binaries.nats_server()), "-c", str(self._configuration), *options],
            environment=self.environment,
            folder=self.home.nats,
            log=self.home.log(self.name),
            death_signal=Signals.SIGTERM,
        )

    def _text(self, port: int) -> str:
        """JSON is valid NATS configuration, and quotes paths properly."""
        trust = self.trust()
        self._told, self._tenants = trust.operator_jwt, frozenset(trust.tenant_accounts)
        store: dict[str, object] = {
            "store_dir": str(self.home.nats / "store"),
            "max_file_store": self.max_store_bytes,
            "max_memory_store": 64 * 1024 * 1024,
        }
        if self.sync == "always":
            store["sync_interval"] = "always"
        configuration = {
            "server_name": f"swarm-{self.home.instance}",
            "listen": f"{LOOPBACK}:{port}",
            "http": f"{LOOPBACK}:{self.monitor_port}",
            "max_payload": MAX_PAYLOAD_BYTES,
            "max_control_line": MAX_CONTROL_LINE_BYTES,
            "jetstream": store,
            "operator": trust.operator_jwt,
            "system_account": trust.system_account_public_key,
            "resolver": "MEMORY",
            "resolver_preload": {
                trust.account_public_key: trust.account_jwt,
                trust.log_account_public_key: trust.log_account_jwt,
                trust.system_account_public_key: trust.system_account_jwt,
                **trust.tenant_accounts,
            },
        }
        return json.dumps(configuration, indent=2)
