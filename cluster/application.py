"""The user's own workflows and agents that the settings ask for."""

from actors.application import ApplicationSource
from cluster.errors import ConfigurationError
from cluster.settings import AGENT_ROLES, Settings


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
