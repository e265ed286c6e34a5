"""The user's own workflows, agents and policy that the settings ask for."""

from actors.application import ApplicationSource
from cluster.errors import ConfigurationError
from cluster.settings import AGENT_ROLES, Settings
from policies.capabilities import Capabilities
from policies.errors import PolicyNotUsable
from policies.source import MAX_SOURCE_BYTES


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
        able = Capabilities.of(text, workers).worker_roles
    except PolicyNotUsable as error:
        raise PolicyNotUsable(f"{settings.policy}: {error}") from error
    unable = [role for role in (*AGENT_ROLES, *workers) if role not in able]
    if unable:
        raise PolicyNotUsable(f"{settings.policy}: role {unable[0]} has agents, but may not work")
    return text
