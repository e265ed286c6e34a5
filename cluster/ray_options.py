"""What the supervisor tells the process that runs Ray's head node; read by both."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePorts:
    """One free port for each of Ray's servers: without them each start waits for the next."""

    gcs_server_port: int
    dashboard_port: int
    dashboard_agent_listen_port: int
    metrics_agent_port: int
    metrics_export_port: int
    runtime_env_agent_port: int
    node_manager_port: int
    object_manager_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """All that a head node is given; crosses to this program as JSON."""

    host: str
    temp_dir: str
    ready_file: str
    """Created when the node has registered and actors can be started."""
    num_cpus: int
    object_store_bytes: int
    ports: NodePorts

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """From that line."""
        fields = json.loads(line)
        return cls(**{**fields, "ports": NodePorts(**fields["ports"])})
