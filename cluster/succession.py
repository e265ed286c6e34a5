"""One supervisor after another: why one ends, when a next one follows, what it takes over."""

from urllib.parse import urlsplit

import structlog

from bus.errors import SwarmError
from cluster.errors import PartFailed
from cluster.settings import Settings
from cluster.state import Phase, State

log = structlog.get_logger()

EXIT_LOST = 4
"""The supervisor's exit status when what it kept up broke down: another one shall follow."""


def goes_on(status: int, state: State | None, *, again: bool) -> bool:
    """Whether another supervisor is to follow: nobody asked this one to end, and it had begun."""
    if status >= 0:
        return status == EXIT_LOST
    return state is not None and (
        state.phase is Phase.READY or (again and state.phase is Phase.STARTING)
    )


def same_ports(settings: Settings, state: State) -> Settings:
    """The settings with the ports that people know: addresses outlive a supervisor."""
    known = {
        "gateway_port": state.addresses.gateway,
        "dashboard_port": state.addresses.ray_dashboard,
        "nats_port": state.addresses.nats,
    }
    ports = {name: urlsplit(url).port for name, url in known.items() if url}
    return settings.model_copy(update={name: port for name, port in ports.items() if port})


def cause_of(error: BaseException) -> BaseException:
    """The first error of ours in a group, or the error as one of ours."""
    while isinstance(error, BaseExceptionGroup):
        ours = error.subgroup(SwarmError)
        error = (ours or error).exceptions[0]
    if isinstance(error, SwarmError) or not isinstance(error, Exception):
        return error
    log.error("swarm.crashed", exc_info=error)
    wrapped = PartFailed(f"The supervisor failed: {type(error).__name__}: {error}.")
    wrapped.__cause__ = error
    return wrapped
