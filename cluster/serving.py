"""The Serve applications: models, reached by handle only, and the gateway over HTTP."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ApplicationStatus

from cluster.errors import PartFailed
from serve.gateway import build_gateway_app
from serve.gateway_parts import GatewayConfig
from serve.inference import EMBEDDING_APP, app_of
from serve.llm import build_model_app
from serve.profile import ModelProfile

GATEWAY_APP: Final = "gateway"
POLL_S: Final = 0.25
_FAILED: Final = frozenset({ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY})


Weighed: TypeAlias = tuple[ModelProfile, str]
"""A profile, and the weights that serve/weights.py found for it."""


class Serving:
    """Ray Serve on the cluster that this process has joined."""

    def __init__(
        self, *, host: str, port: int, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        """Say where the gateway is to listen.

        Args:
            host: address to listen on.
            port: taken by the proxy on the head node.
            certificate: PEM file for TLS, on that node; None: plain HTTP.
            key: PEM file with its key.
        """
        self._http = HTTPOptions(
            host=host,
            port=port,
            ssl_certfile=None if certificate is None else str(certificate),
            ssl_keyfile=None if key is None else str(key),
        )

    async def deploy(
        self, models: Sequence[Weighed], embedder: Weighed, gateway: GatewayConfig
    ) -> None:
        """Ask for the applications; returns before they are ready.

        Args:
            models: of the agents; the first is that of every role without its own.
            embedder: turns texts into vectors.
            gateway: speaks HTTP.
        """
        await asyncio.to_thread(self._deploy, models, embedder, gateway)

    def _deploy(self, models: Sequence[Weighed], embedder: Weighed, gateway: GatewayConfig) -> None:
        default = models[0][0].name
        targets = [
            serve.RunTarget(
                build_model_app(profile, weights),
                name=app_of(profile.name, default=default),
                route_prefix=None,
            )
            for profile, weights in models
        ]
        serve.start(proxy_location="HeadOnly", http_options=self._http)
        serve.run_many(
            [
                *targets,
                serve.RunTarget(build_model_app(*embedder), name=EMBEDDING_APP, route_prefix=None),
                serve.RunTarget(build_gateway_app(gateway), name=GATEWAY_APP, route_prefix="/"),
            ],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    async def model_ready(self, app: str) -> None:
        """Return once the model of that application answers.

        Raises:
            PartFailed: Serve gave it up, with Serve's reason.
        """
        await _running(app)

    async def embedder_ready(self) -> None:
        """Return once the embedding model answers.

        Raises:
            PartFailed: Serve gave it up, with Serve's reason.
        """
        await _running(EMBEDDING_APP)

    async def gateway_ready(self) -> None:
        """Return once the gateway answers.

        Raises:
            PartFailed: Serve gave it up, with Serve's reason.
        """
        await _running(GATEWAY_APP)

    async def stop(self) -> None:
        """Let replicas finish what they do, then end them."""
        await asyncio.to_thread(serve.shutdown)


async def _running(app: str) -> None:
    while True:
        overview = (await asyncio.to_thread(serve.status)).applications.get(app)
        if overview is not None and overview.status == ApplicationStatus.RUNNING:
            return
        if overview is not None and overview.status in _FAILED:
            reasons = [overview.message, *(d.message for d in overview.deployments.values())]
            raise PartFailed(f"The {app} did not start: {' '.join(filter(None, reasons))}")
        await asyncio.sleep(POLL_S)
