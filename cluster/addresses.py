"""Where the parts of a running swarm are, passwords included: never logged, never stored."""

from dataclasses import dataclass, field

from cluster.parts.external import without_password
from cluster.state import PublicAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """What the actors and the gateway connect to."""

    nats: str = field(repr=False)
    """nats://host:port"""
    database: str = field(repr=False)
    """postgresql://role:password@host:port/database"""
    redis: str = field(repr=False)
    """redis://:password@host:port/0"""
    qdrant: str = field(repr=False)
    """An http(s) URL, or the directory for local mode."""
    ray: str
    """host:port of the GCS."""
    ray_dashboard: str
    """http://host:port, or empty where Ray is external."""
    gateway_host: str
    gateway_port: int
    gateway_tls: bool = False

    @property
    def gateway(self) -> str:
        """The gateway's URL as seen from this machine."""
        host = "127.0.0.1" if self.gateway_host in {"0.0.0.0", "::"} else self.gateway_host  # noqa: S104 # nosec B104
        return f"{'https' if self.gateway_tls else 'http'}://{host}:{self.gateway_port}"

    def public(self) -> PublicAddresses:
        """The same without passwords."""
        return PublicAddresses(
            gateway=self.gateway,
            nats=without_password(self.nats),
            postgres=without_password(self.database),
            redis=without_password(self.redis),
            qdrant=without_password(self.qdrant),
            ray=self.ray,
            ray_dashboard=self.ray_dashboard,
        )
