"""Whether each part of a running swarm answers, asked from outside."""

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial

from cluster import probe
from cluster.errors import NotAnswering
from cluster.home import Home
from cluster.parts.qdrant import LocalQdrant
from cluster.process import Probe
from cluster.settings import Settings
from cluster.state import State, no_address
from serve.inference import EMBEDDING_APP, app_of
from serve.tls import trusting_only

PROBE_LIMIT_S = 5.0
"""Longer than any healthy part takes on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHealth:
    """What one part answered."""

    name: str
    address: str
    """Without any password."""
    healthy: bool
    detail: str
    latency_ms: float


async def check(state: State, settings: Settings) -> list[PartHealth]:
    """Ask all parts at once; takes `PROBE_LIMIT_S` at most, and never raises for a sick part."""
    home = settings.located_home()
    addresses = state.addresses
    token = await asyncio.to_thread(_ray_token, home)
    asked: list[tuple[str, str, Probe]] = [
        ("gateway", addresses.gateway, lambda: _gateway(state)),
        ("nats", addresses.nats, lambda: probe.nats(addresses.nats)),
        ("postgres", addresses.postgres, lambda: probe.postgres(addresses.postgres)),
        ("redis", addresses.redis, lambda: _redis(addresses.redis, settings, home)),
        ("qdrant", addresses.qdrant, lambda: _qdrant(addresses.qdrant, home)),
        ("ray", addresses.ray, lambda: _ray(addresses.ray)),
    ]
    if addresses.ray_dashboard:
        url = addresses.ray_dashboard
        asked += [
            ("dashboard", url, lambda: _dashboard(url, token)),
            *(
                (app, profile, partial(_application, app, url, token))
                for app, profile in applications_of(state).items()
            ),
        ]
    absence = no_address(state)
    return list(await asyncio.gather(*(_ask(*question, absence) for question in asked)))


def applications_of(state: State) -> dict[str, str]:
    """The profile of each model that is served, by its Serve application."""
    default = state.model_profile
    writing = {app_of(name, default=default): name for name in (default, *state.further_profiles)}
    return {**writing, EMBEDDING_APP: state.embedding_profile}


def application_status(document: str, name: str) -> str:
    """What Ray Serve's list of applications says of one.

    Raises:
        NotAnswering: it is not running, with its status and Serve's message.
    """
    try:
        application = json.loads(document)["applications"].get(name)
        if application is None:
            raise NotAnswering(f"No {name} is deployed.")
        status, message = application["status"], application.get("message", "")
    except (ValueError, KeyError, AttributeError) as error:
        raise NotAnswering("Ray Serve's answer is not understood.") from error
    if status != "RUNNING":
        raise NotAnswering(f"The {name} is {status.lower()}. {message}".strip())
    return "running"


async def _ask(name: str, address: str, ask: Probe, absence: str) -> PartHealth:
    """Ask one; `absence` is said of one that has no address."""
    if not address:
        return PartHealth(name=name, address="", healthy=False, detail=absence, latency_ms=0.0)
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_LIMIT_S):
            detail, healthy = str(await ask()), True
    except TimeoutError:
        detail, healthy = f"no answer within {PROBE_LIMIT_S:g} s", False
    except (NotAnswering, OSError) as error:
        detail, healthy = str(error), False
    latency_ms = round((time.perf_counter() - began) * 1000, 1)
    return PartHealth(
        name=name, address=address, healthy=healthy, detail=detail, latency_ms=latency_ms
    )


async def _gateway(state: State) -> str:
    certificate = state.gateway_certificate
    tls = None if certificate is None else await asyncio.to_thread(trusting_only, certificate)
    await probe.http(f"{state.addresses.gateway}/health/live", tls=tls)
    return "live"


async def _redis(address: str, settings: Settings, home: Home) -> str:
    if settings.redis_url is not None:
        return await probe.redis(settings.redis_url.get_secret_value())
    password = await asyncio.to_thread((home.keys / "redis_password").read_text)
    return await probe.redis(address.replace("redis://", f"redis://:{password.strip()}@", 1))


async def _qdrant(address: str, home: Home) -> str:
    if address.startswith("http"):
        return await probe.qdrant(address)
    return await LocalQdrant(home).probe()


async def _ray(address: str) -> str:
    host, _, port = address.rpartition(":")
    return await probe.tcp(host, int(port))


async def _dashboard(url: str, token: str | None) -> str:
    version = json.loads(await probe.http(f"{url}/api/version", token=token))
    return f"Ray {version.get('ray_version', '')}"


async def _application(name: str, url: str, token: str | None) -> str:
    document = await probe.http(f"{url}/api/serve/applications/", token=token)
    return application_status(document, name)


def _ray_token(home: Home) -> str | None:
    try:
        return home.ray_token().read_text().strip()
    except OSError:
        return None  # without it the dashboard answers 401, which is what is reported
