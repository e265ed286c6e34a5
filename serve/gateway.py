"""The gateway as a Ray Serve application. It adds name, size and life, never behaviour."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final

from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from bus.logs import configure_logs
from serve.app import create_late_app
from serve.gateway_parts import GatewayConfig, connect_parts
from serve.ports import GatewayParts

NAME: Final = "gateway"
SHUTDOWN_S: Final = 10.0
"""For open event streams and for the last event of the gateway's own chain."""

HEALTH_PERIOD_S: Final = 1.0
"""Serve learns of a replica's death when it asks next; nobody is served until then."""


class Gateway:
    """Builds the ASGI application inside the replica, because connections do not travel."""

    def __init__(self, open_parts: Callable[[], AbstractAsyncContextManager[GatewayParts]]) -> None:
        self._open_parts = open_parts

    def __serve_build_asgi_app__(self) -> Starlette:
        """Called by Serve once, in the replica; the application connects when it starts."""
        configure_logs()
        return create_late_app(self._open_parts)


def build_gateway_app(config: GatewayConfig) -> Application:
    """The application to give to ``serve.run(..., name="gateway", route_prefix="/")``.

    One replica: its key signs, and a chain belongs to a key. It serves at the root only.
    """
    return deploy(partial(connect_parts, config), config.max_ongoing_requests)


def deploy(
    open_parts: Callable[[], AbstractAsyncContextManager[GatewayParts]],
    max_ongoing_requests: int,
) -> Application:
    """The application over parts that are opened in the replica; `open_parts` must pickle."""
    deployed = serve.deployment(
        name=NAME,
        num_replicas=1,
        max_ongoing_requests=max_ongoing_requests,
        graceful_shutdown_timeout_s=SHUTDOWN_S,
        health_check_period_s=HEALTH_PERIOD_S,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},  # the application writes its own
    )
    return deployed(serve.ingress()(Gateway)).bind(open_parts)
