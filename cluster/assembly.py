"""Which parts a swarm has: each embedded, or external where the settings give a URL."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from signal import Signals

from pydantic import SecretStr

from bus.identity import Authority
from bus.keyring import KeyDirectory
from cluster import ports, probe
from cluster.addresses import Addresses
from cluster.certificate import check_certificate
from cluster.fallback import fallback_of
from cluster.home import Home
from cluster.parts.external import External
from cluster.parts.nats import Nats, NatsTrust
from cluster.parts.part import Custom, Part
from cluster.parts.postgres import Postgres
from cluster.parts.qdrant import LocalQdrant
from cluster.parts.ray_head import LEAST_CPUS, RayHead
from cluster.parts.server import Server
from cluster.parts.valkey import Valkey
from cluster.settings import Settings, child_environment

PREFERRED_GATEWAY_PORT = 8000
PREFERRED_DASHBOARD_PORT = 8265

_SERVER_START_S = 60.0
"""NATS replays its store and Postgres its write-ahead log after a crash."""
_RAY_START_S = 120.0


Trust = Callable[[], NatsTrust]
"""What the NATS server has to be told, at each of its starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The parts, in the order in which they are stopped, and where they are once started."""

    parts: tuple[Part, ...]
    addresses: Callable[[], Addresses]


def authority(home: Home) -> Authority:
    """The swarm's own trust root, made at the first start and kept in SWARM_HOME/keys.

    Raises:
        IdentityError: the keys cannot be read or written.
    """
    if KeyDirectory(home.keys).exists:
        return Authority.load(home.keys)
    made = Authority.create()
    made.save(home.keys)
    return made


def trust_of(root: Authority) -> NatsTrust:
    """What the NATS server is told of it: public keys and signed claims."""
    return NatsTrust(
        operator_jwt=root.operator_jwt,
        account_public_key=root.account_public_key,
        account_jwt=root.account_jwt_in_force,
        log_account_public_key=root.log_account_public_key,
        log_account_jwt=root.log_account_jwt,
        system_account_public_key=root.system_account_public_key,
        system_account_jwt=root.system_account_jwt,
        tenant_accounts=root.tenant_accounts,
    )


def trust_in(home: Home) -> Trust:
    """What the NATS server of a home has to be told, read when it is asked for."""
    return lambda: trust_of(authority(home))


def assemble(settings: Settings, home: Home, trust: Trust) -> Assembly:
    """Decide on the parts; nothing is started.

    Raises:
        PortTaken: the gateway or the dashboard was given a port that is in use.
        ConfigurationError: the gateway's certificate or key, or the fallback provider, cannot be
            used.
    """
    check_certificate(settings)
    fallback_of(settings, home)
    gateway_port = ports.choose(
        settings.gateway_port,
        part="gateway",
        variable="SWARM_GATEWAY_PORT",
        preferred=PREFERRED_GATEWAY_PORT,
    )
    ray, ray_address, dashboard = _ray(settings, home)
    nats, nats_url = _nats(settings, home, trust)
    postgres, database_url = _postgres(settings, home)
    redis, redis_url = _redis(settings, home)
    qdrant, qdrant_url = _qdrant(settings, home)
    return Assembly(
        parts=(ray, nats, postgres, redis, qdrant),
        addresses=lambda: Addresses(
            nats=nats_url(),
            database=database_url(),
            redis=redis_url(),
            qdrant=qdrant_url(),
            ray=ray_address(),
            ray_dashboard=dashboard,
            gateway_host=settings.gateway_host,
            gateway_port=gateway_port,
            gateway_tls=settings.gateway_tls_certificate is not None,
        ),
    )


_Located = tuple[Part, Callable[[], str]]
"""A part, and its address with password once it has started."""


def assemble_log(settings: Settings, home: Home, trust: Trust) -> tuple[_Located, _Located]:
    """Decide on the two parts that hold the log and its audited copy: NATS and Postgres."""
    return _nats(settings, home, trust), _postgres(settings, home)


def _ray(settings: Settings, home: Home) -> tuple[Part, Callable[[], str], str]:
    address = settings.ray_address
    if address is not None:
        host, _, port = address.rpartition(":")
        part = External("ray", address, lambda: probe.tcp(host, int(port)), variable="RAY_ADDRESS")
        return part, lambda: address, ""
    dashboard_port = ports.choose(
        settings.dashboard_port,
        part="the Ray dashboard",
        variable="SWARM_DASHBOARD_PORT",
        preferred=PREFERRED_DASHBOARD_PORT,
    )
    head = RayHead(
        home=home,
        environment=child_environment(settings),
        num_cpus=settings.ray_num_cpus or max(LEAST_CPUS, os.cpu_count() or 1),
        object_store_bytes=settings.ray_object_store_bytes,
        dashboard_port=dashboard_port,
    )
    custom = Custom(
        port=settings.ray_port,
        port_variable="SWARM_RAY_PORT",
        start_timeout_s=_RAY_START_S,
        restarts=False,  # actors live in it: the swarm starts anew and folds its log again
    )
    server = Server(head, custom)
    return server, lambda: head.address(server.port), head.dashboard


def _nats(settings: Settings, home: Home, trust: Trust) -> _Located:
    if settings.nats_url is not None:
        return _external("nats", settings.nats_url, probe.nats)
    recipe = Nats(
        home=home,
        environment=child_environment(settings),
        trust=trust,
        sync=settings.nats_sync,
        max_store_bytes=settings.jetstream_max_bytes,
    )
    keys = KeyDirectory(home.keys)
    custom = Custom(
        port=settings.nats_port,
        port_variable="SWARM_NATS_PORT",
        start_timeout_s=_SERVER_START_S,
        changed_at=keys.changed_at,
        is_outdated=recipe.is_outdated,
    )
    server = Server(recipe, custom)
    return server, lambda: recipe.address(server.port)


def _postgres(settings: Settings, home: Home) -> _Located:
    if settings.database_url is not None:
        return _external("postgres", settings.database_url, probe.postgres, "DATABASE_URL")
    recipe = Postgres(home=home, environment=child_environment(settings))
    custom = Custom(
        port=settings.postgres_port,
        port_variable="SWARM_POSTGRES_PORT",
        start_timeout_s=_SERVER_START_S,
        stop_signal=Signals.SIGINT,  # fast: ends sessions, then writes everything down
    )
    server = Server(recipe, custom)
    return server, lambda: recipe.url(server.port)


def _redis(settings: Settings, home: Home) -> _Located:
    if settings.redis_url is not None:
        return _external("redis", settings.redis_url, probe.redis)
    recipe = Valkey(home=home, environment=child_environment(settings))
    custom = Custom(
        port=settings.redis_port, port_variable="SWARM_REDIS_PORT", start_timeout_s=_SERVER_START_S
    )
    server = Server(recipe, custom)
    return server, lambda: recipe.url(server.port)


def _qdrant(settings: Settings, home: Home) -> _Located:
    if settings.qdrant_url is not None:
        return _external("qdrant", settings.qdrant_url, probe.qdrant)
    return LocalQdrant(home), lambda: str(home.qdrant)


def _external(
    name: str,
    url: SecretStr,
    ask: probe.UrlProbe,
    variable: str | None = None,
) -> _Located:
    plain = url.get_secret_value()
    part = External(name, plain, lambda: ask(plain), variable=variable or f"{name.upper()}_URL")
    return part, lambda: plain
