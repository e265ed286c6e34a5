"""The settings of an outside provider that answers where the swarm's own model cannot."""

from contextlib import suppress
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

PREFIX = "SWARM_"


def either(name: str) -> AliasChoices:
    """Accept SWARM_NAME, and NAME as other tools call it."""
    return AliasChoices(PREFIX + name.upper(), name.upper())


def parts_of(url: str) -> SplitResult:
    """The parts of a URL, with a port that can be read.

    Raises:
        ValueError: they cannot be told apart; nothing of the URL is repeated, since a password may
            be what stands where the port or the path should be.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        _ = parts.port  # raises, and repeats what it could not read
        if "@" not in parts.path + parts.query.partition("=")[0] + parts.fragment:
            return parts
    raise ValueError(
        "its parts cannot be told apart: / # ? @ [ and ] in a password must be percent-encoded "
        "(/ is %2F, # is %23, ? is %3F, @ is %40), and a port is a number up to 65535"
    )


class FallbackSettings(BaseSettings):
    """Off unless set: prompts leave the machine with it."""

    fallback: Literal["none", "openai", "anthropic"] = "none"
    """Who answers where the own model cannot, with the key that goes with it; none: nobody does,
    unless fallback_url names another provider. Prompts then leave this machine."""
    fallback_url: str | None = None
    """Where another provider speaks OpenAI's API, as "https://llm.example/v1"."""
    fallback_model: str | None = None
    """The provider's name for the model to ask. A role's policy must let it call that one."""
    fallback_api_key: SecretStr | None = None
    """The provider's key; None for one that wants none."""
    openai_api_key: SecretStr | None = Field(None, validation_alias=either("openai_api_key"))
    anthropic_api_key: SecretStr | None = Field(None, validation_alias=either("anthropic_api_key"))
    """Used with SWARM_FALLBACK only; otherwise they are left to your own agents."""

    @field_validator("fallback_url")
    @classmethod
    def _check_fallback_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = parts_of(value)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts.query
                or parts.fragment
            ):
                raise ValueError("expected a URL such as https://llm.example/v1")
            if parts.username is not None or parts.password is not None:
                raise ValueError("the key goes into SWARM_FALLBACK_API_KEY, not into the URL")
        return value
