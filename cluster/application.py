"""The user's own workflows, agents and policy that the settings ask for."""

from typing import Final

from actors.application import ApplicationSource
from actors.mcp_servers import ServersSource
from bus.identity import AUTHORITY_ROLE, LAUNCHER_ROLE
from cluster.errors import ConfigurationError
from cluster.settings import AGENT_ROLES, Settings
from policies.action import decide
from policies.capabilities import Capabilities
from policies.errors import PolicyNotUsable
from policies.source import MAX_SOURCE_BYTES

_TO_START: Final = {
    LAUNCHER_ROLE: ("provision",),
    AUTHORITY_ROLE: ("publish identity.issued.KEY", "publish policy.adopted"),
    "coordinator": ("read", "unseal"),
    "auditor": ("read",),
    "gateway": ("read", "unseal"),
}
"""What has to be allowed, or nothing comes up and nobody is told why."""


def application_of(settings: Settings) -> ApplicationSource | None:
    """The application that the settings ask for, loaded once to see that it can be used.

    Raises:
        ApplicationNotUsable: it cannot.
        ConfigurationError: SWARM_AGENTS names a role that nobody has.
    """
    source = None if settings.application is None else ApplicationSource.read(settings.application)
    own = source.load().roles if source else ()
    unknown = sorted(set(settings.agents) - {*AGENT_ROLES, *own})
    if unknown:
        raise ConfigurationError(
            f"SWARM_AGENTS cannot be used: no role is called {unknown[0]}; "
            f"there are {', '.join((*AGENT_ROLES, *own))}."
        )
    return source


def servers_of(settings: Settings) -> ServersSource | None:
    """The MCP servers that the settings ask for.

    Raises:
        ServersNotUsable: the file cannot be used.
    """
    return None if settings.mcp_servers is None else ServersSource.read(settings.mcp_servers)


def workers_of(settings: Settings) -> tuple[str, ...]:
    """The roles of the user's own agents.

    Raises:
        ApplicationNotUsable, ConfigurationError: as `application_of`.
    """
    source = application_of(settings)
    return source.load().roles if source else ()


def bundle_of(settings: Settings) -> str:
    """The text of the policy bundle that the settings ask for, empty for the shipped one.

    Raises:
        PolicyNotUsable: it cannot be read, or has no rule for agents that are to be started.
        ApplicationNotUsable, ConfigurationError: as `application_of`.
    """
    if settings.policy is None:
        return ""
    try:
        text = settings.policy.read_bytes()[: MAX_SOURCE_BYTES + 1].decode()
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyNotUsable(f"{settings.policy} cannot be read: {error}") from error
    try:
        workers = workers_of(settings)
        _check_start(Capabilities.of(text, workers), workers)
    except PolicyNotUsable as error:
        raise PolicyNotUsable(f"{settings.policy}: {error}") from error
    return text


def _check_start(policy: Capabilities, workers: tuple[str, ...]) -> None:
    """See that a swarm can start under the policy: who founds it is not shut out by it.

    Raises:
        PolicyNotUsable: it cannot.
    """
    for role, actions in _TO_START.items():
        for action in actions:
            if not decide(policy, role, action).allowed:
                raise PolicyNotUsable(f"no swarm can start where role {role} may not {action}")
    unable = [role for role in (*AGENT_ROLES, *workers) if role not in policy.worker_roles]
    if unable:
        raise PolicyNotUsable(f"role {unable[0]} has agents, but may not work")
