"""From running servers to a working swarm: the bus, the people, the members, the model.

Everything that does not wait for something else happens at the same time; the model's
engine, which takes longest, is asked for first.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import ray
import structlog

from actors.application import ApplicationSource
from actors.authority import vouch
from actors.equipment import Equipment
from actors.member import Domain, Enrolment, as_member
from actors.memory_actor import MemoryDesk
from actors.retention import Rules
from actors.shell import NAMESPACE, issue, unlock
from actors.sparc import WORKFLOWS
from actors.staff import AuditDesk, AuthorityDesk
from actors.workflow import WorkflowSpec
from bus.identity import LAUNCHER_ROLE, Authority
from bus.nkey import AgentKey
from bus.provision import provision
from cluster.addresses import Addresses
from cluster.application import application_of, bundle_of, servers_of
from cluster.assembly import authority
from cluster.errors import MemberBarred
from cluster.fallback import fallback_of, keep_key
from cluster.home import Home
from cluster.log_key import log_key_jwt, log_origin
from cluster.members import Members, NamedModel, Roster
from cluster.models import embedder_of, profiles_of, refuse_misfit, warn_of_misfit
from cluster.people import (
    attempt_secret_file,
    audit_key_file,
    enrolment_secret_file,
    prepare_people,
    token_key_file,
)
from cluster.recovery import refuse_unfinished
from cluster.retention import Retention
from cluster.serving import Serving
from cluster.settings import AGENT_ROLES, Settings
from cluster.state import Progress, ProgressWriter
from policies.capabilities import queue_name
from serve.gateway_parts import GatewayConfig
from serve.inference import ModelClient, app_of
from serve.people import PeopleRules
from serve.ports import Web
from serve.profile import ModelProfile
from serve.resilience import resilient
from serve.text_embedder import TextEmbedder
from serve.weights import ensure_weights

log = structlog.get_logger()

T = TypeVar("T")

_PROVISIONING = timedelta(minutes=5)


class Launched:
    """A working swarm, on servers that somebody else owns."""

    def __init__(self, members: Members, serving: Serving, retention: "asyncio.Task[None]") -> None:
        self._members = members
        self._serving = serving
        self._retention = retention

    async def stop(self) -> None:
        """End it in order: no new work, then the members, then the connection to Ray."""
        self._retention.cancel()
        try:
            await asyncio.gather(self._serving.stop(), self._members.stop())
        finally:
            await asyncio.to_thread(ray.shutdown)


async def start(
    settings: Settings, home: Home, addresses: Addresses, progress: ProgressWriter
) -> Launched:
    """Start everything that runs on the servers, and return when it works.

    Raises:
        SwarmError: a part did not start; what was started is stopped by ending Ray.
    """
    refuse_unfinished(home)
    await asyncio.to_thread(keep_key, settings, home)
    root = authority(home)
    _refuse_barred(root)
    application = application_of(settings)
    domain = Domain(
        nats_url=addresses.nats,
        operator_public_key=root.operator_public_key,
        account_jwt=root.account_jwt,
        workers=application.load().roles if application else (),
        bundle=bundle_of(settings),
    )
    profiles, embedder = profiles_of(settings), embedder_of(settings)
    if settings.ray_address is None:
        await asyncio.to_thread(refuse_misfit, (*profiles, embedder))
    async with asyncio.TaskGroup() as group:
        group.create_task(_step(progress, "bus", _provision(settings, root, domain)))
        group.create_task(_step(progress, "people", prepare_people(home, addresses.database)))
        group.create_task(asyncio.to_thread(_join_ray, addresses.ray))
        weights = [
            group.create_task(_weights(progress, profile, home.models)) for profile in profiles
        ]
        vectors = group.create_task(ensure_weights(embedder, home.models))
    secret = enrolment_secret_file(home).read_bytes().strip()
    barred = root.ring.barred
    members = Members(
        _roster(settings, home, addresses, domain, secret, application, barred, profiles, embedder)
    )
    serving = Serving(
        host=addresses.gateway_host,
        port=addresses.gateway_port,
        certificate=settings.gateway_tls_certificate,
        key=settings.gateway_tls_key,
    )
    workflows = application.load().with_shipped() if application else WORKFLOWS
    web = Web(tls=addresses.gateway_tls, origins=settings.gateway_origins)
    log_key = log_key_jwt(home, root)
    gateway = _gateway(settings, home, addresses, domain, secret, profiles, workflows, web, log_key)
    if settings.ray_address is not None:
        warn_of_misfit((*profiles, embedder), ray.nodes())  # type: ignore[no-untyped-call]
    async with asyncio.TaskGroup() as group:
        group.create_task(_step(progress, "agents", members.ready(), f"{members.count} actors"))
        models = [(each, found.result()) for each, found in zip(profiles, weights, strict=True)]
        await serving.deploy(models, (embedder, vectors.result()), gateway)
        for profile in profiles:
            app = app_of(profile.name, default=profiles[0].name)
            group.create_task(_step(progress, app, serving.model_ready(app), profile.served_name))
        ready = serving.embedder_ready()
        group.create_task(_step(progress, "embedding", ready, embedder.served_name))
        group.create_task(_step(progress, "gateway", serving.gateway_ready(), addresses.gateway))
    rules = Rules(max_age_s=settings.log_max_age_s)
    retention = Retention(root, domain, addresses.database, rules)
    return Launched(members, serving, asyncio.create_task(retention.run()))


def _join_ray(address: str) -> None:
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)


async def _provision(settings: Settings, root: Authority, domain: Domain) -> None:
    policy = domain.policy()
    key = AgentKey.generate()
    credential = vouch(
        root, policy, key.public, role=LAUNCHER_ROLE, name=LAUNCHER_ROLE, ttl=_PROVISIONING
    )
    async with as_member(domain, key, credential) as event_log:
        await provision(
            event_log.connection,
            queues={role: queue_name(role) for role in policy.worker_roles},
            lease_s=settings.lease_s,
            max_bytes=settings.jetstream_max_bytes,
        )


async def _weights(progress: ProgressWriter, profile: ModelProfile, models: Path) -> str:
    if profile.engine == "scripted":
        return ""
    return await _step(progress, "weights", ensure_weights(profile, models))


def _roster(
    settings: Settings,
    home: Home,
    addresses: Addresses,
    domain: Domain,
    secret: bytes,
    application: ApplicationSource | None,
    barred: frozenset[str],
    profiles: Sequence[ModelProfile],
    embedder: ModelProfile,
) -> Roster:
    fallback = fallback_of(settings, home)
    models = {
        each.name: NamedModel(
            model=resilient(ModelClient(app=app_of(each.name, default=profiles[0].name)), fallback),
            name=each.served_name,
        )
        for each in profiles
    }
    return Roster(
        domain=domain,
        secret=secret,
        agents={role: settings.agents_of(role) for role in (*AGENT_ROLES, *domain.workers)},
        model=models[profiles[0].name],
        role_models={role: models[name] for role, name in settings.role_models.items()},
        lease_s=settings.lease_s,
        authority=AuthorityDesk(
            keys=home.keys,
            secret_file=enrolment_secret_file(home),
            credential_ttl_s=settings.credential_ttl_s,
        ),
        audit=AuditDesk(
            database_url=addresses.database,
            key_file=audit_key_file(home),
            origin=log_origin(home),
            check_s=settings.log_check_s,
            witnesses=settings.witness_addresses(),
        ),
        memory=MemoryDesk(
            database_url=addresses.database,
            redis_url=addresses.redis,
            qdrant=addresses.qdrant,
            embedder=TextEmbedder(embedder.served_name),
            space=embedder.served_name,
            dimensions=embedder.dimensions or 0,
        ),
        application=application,
        equipment=Equipment(code=settings.code_tool, servers=servers_of(settings)),
        barred=barred,
    )


def _refuse_barred(root: Authority) -> None:
    """A swarm does without an agent that was revoked, but not without these."""
    for member in (
        *("coordinator/coordinator", "auditor/auditor"),
        *("gateway/gateway", "memory/memory"),
    ):
        if member in root.ring.barred:
            name = member.partition("/")[2]
            raise MemberBarred(f"The {name} was revoked.")


def _gateway(
    settings: Settings,
    home: Home,
    addresses: Addresses,
    domain: Domain,
    secret: bytes,
    profiles: Sequence[ModelProfile],
    workflows: Mapping[str, WorkflowSpec],
    web: Web,
    log_key: str,
) -> GatewayConfig:
    served = {each.name: each.served_name for each in profiles}
    default = profiles[0].name
    return GatewayConfig(
        domain=domain,
        enrolment=Enrolment.grant(secret, "gateway", "gateway"),
        issue=issue,
        unlock=unlock,
        database_url=addresses.database,
        redis_url=addresses.redis,
        token_key=token_key_file(home),
        attempt_key=attempt_secret_file(home).read_bytes().strip(),
        model_name=served[default],
        role_models={role: served[name] for role, name in settings.role_models.items()},
        role_apps={
            name: app_of(profile, default=default)
            for profile, name in served.items()
            if profile != default
        },
        workflows=workflows,
        web=web,
        log_key_jwt=log_key,
        fallback=fallback_of(settings, home),
        people=PeopleRules(registration=settings.registration, proxies=settings.trusted_networks()),
    )


async def _step(progress: ProgressWriter, part: str, work: Awaitable[T], detail: str = "") -> T:
    """Do the work and show how long it took."""
    began = time.monotonic()
    progress.write(Progress(part=part, phase="starting"))
    try:
        result = await work
    except BaseException as error:
        seconds = round(time.monotonic() - began, 3)
        progress.write(
            Progress(part=part, phase="failed", seconds=seconds, detail=str(error)[:500])
        )
        raise
    seconds = round(time.monotonic() - began, 3)
    log.info("part.started", part=part, seconds=seconds)
    progress.write(Progress(part=part, phase="ready", seconds=seconds, detail=detail))
    return result
