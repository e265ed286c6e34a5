"""The settings of how people's programs reach the gateway."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

Port = Annotated[int, Field(ge=0, le=65535)]
_WEB = ("http", "https")


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and whom it believes."""

    gateway_host: str = "127.0.0.1"
    """Where the gateway listens; 0.0.0.0 opens it to the network, behind TLS please."""
    gateway_port: Port | None = None
    """None prefers 8000 and takes a free port where that is in use; 0 takes a free one."""
    gateway_tls_certificate: Path | None = None
    """PEM file with the gateway's certificate, and those that vouch for it; None: plain HTTP."""
    gateway_tls_key: Path | None = Field(None, validate_default=True)
    """PEM file with its private key, not encrypted."""
    gateway_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may call the gateway from a browser, as
    "https://app.example,https://admin.example"; none, so that no page may."""
    registration: Literal["closed", "open"] = "closed"
    """Whether strangers may make themselves a user; closed: an admin makes them."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks of proxies in front of the gateway, as "10.0.0.0/8,::1": their X-Forwarded-For
    is believed, anybody else's is not. It decides whose attempts to log in are counted."""

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _parse_proxies(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"{network[:64]!r} is not a network such as 10.0.0.0/8") from None
        return value

    @field_validator("gateway_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(origin.strip() for origin in value.split(",") if origin.strip())

    @field_validator("gateway_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in _WEB:
                raise ValueError(f"{origin} is not an origin such as https://app.example:8443")
        return value

    @field_validator("gateway_tls_key")
    @classmethod
    def _check_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("gateway_tls_certificate") is None):
            raise ValueError("a certificate and its key are given together, or neither")
        return value

    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks whose X-Forwarded-For is believed."""
        return tuple(ip_network(network) for network in self.trusted_proxies)
