"""The outside provider that the settings ask for, and its key, kept where the others are."""

from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from cluster.errors import ConfigurationError, HomeNotUsable
from cluster.home import Home, write_private
from cluster.settings import Settings
from serve.fallback import FallbackConfig, is_key

KEY_FILE: Final = "fallback_api_key"
_URLS: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}


def fallback_of(settings: Settings, home: Home) -> FallbackConfig | None:
    """Where the provider is; None where the settings ask for none. Nothing is written.

    Raises:
        ConfigurationError: they say no model, or no key for a provider that wants one.
    """
    named = settings.fallback != "none"
    if not named and settings.fallback_url is None:
        return None
    if settings.fallback_model is None:
        raise ConfigurationError("SWARM_FALLBACK_MODEL is missing: name the provider's model.")
    key = key_of(settings)
    if named and key is None:
        variable = f"{settings.fallback.upper()}_API_KEY"
        raise ConfigurationError(f"SWARM_FALLBACK={settings.fallback} needs {variable}.")
    if key is not None and not is_key(key.get_secret_value()):
        raise ConfigurationError("The key of the fallback provider holds what no key does.")
    url = settings.fallback_url or _URLS[settings.fallback]
    return FallbackConfig(
        name=settings.fallback if named else urlsplit(url).hostname or "fallback",
        url=url,
        model=settings.fallback_model,
        key_file=None if key is None else home.keys / KEY_FILE,
    )


def key_of(settings: Settings) -> SecretStr | None:
    """The key for the provider, where one was given."""
    match settings.fallback:
        case "openai":
            return settings.fallback_api_key or settings.openai_api_key
        case "anthropic":
            return settings.fallback_api_key or settings.anthropic_api_key
        case _:
            return settings.fallback_api_key


def keep_key(settings: Settings, home: Home) -> None:
    """Write the key where members read it, for this user only; remove one that is not used.

    Raises:
        HomeNotUsable: it cannot be written.
    """
    config, key = fallback_of(settings, home), key_of(settings)
    path = home.keys / KEY_FILE
    try:
        if config is None or key is None:
            path.unlink(missing_ok=True)
        else:
            write_private(path, key.get_secret_value().encode())
    except OSError as error:
        raise HomeNotUsable(f"Cannot use {path}: {error.strerror}.") from error
