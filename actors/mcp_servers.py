"""The MCP servers whose tools a swarm's agents may use, from a YAML file.

    files:
      command: [mcp-server-files, /srv/documents]
      roles: [researcher]
    search:
      url: https://search.example/mcp
      headers: {Authorization: Bearer ...}
      roles: [researcher, critic]

Their tools are called ``files.read`` and ``search.find``; the policy has to name those that a
role may call.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from actors.errors import ServersNotUsable
from bus.payload import Name

MAX_SOURCE_BYTES: Final = 200_000
TIMEOUT_S: Final = 30.0
_REASON_CHARS: Final = 300


class McpServer(BaseModel):
    """A server, reached over the pipes of a process or over HTTP.

    Attributes:
        command: what is started for it, with its arguments; or
        url: where it listens, by streamable HTTP.
        environment: of the process, besides PATH, HOME and the like; none of the swarm's own.
        headers: sent with each request.
        roles: whose agents may be given its tools.
        timeout_s: seconds for a call, the start of the process included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    command: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    url: str = Field("", pattern=r"^(https?://.+)?$")
    environment: dict[str, SecretStr] = Field(default_factory=dict)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    roles: Annotated[tuple[Name, ...], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=600)] = TIMEOUT_S


_SERVERS: Final = TypeAdapter(dict[Name, McpServer])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersSource:
    """The text of the file; it may hold secrets, and is not shown."""

    path: str
    text: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file, and see that it can be used.

        Raises:
            ServersNotUsable: it is not there, or not of the form; says where.
        """
        try:
            text = path.read_bytes()[: MAX_SOURCE_BYTES + 1].decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ServersNotUsable(f"{path} cannot be read: {error}") from error
        if len(text.encode()) > MAX_SOURCE_BYTES:
            raise ServersNotUsable(f"{path} is over {MAX_SOURCE_BYTES} bytes")
        source = cls(path=str(path), text=text)
        source.servers()
        return source

    def servers(self) -> dict[str, McpServer]:
        """The servers by their names.

        Raises:
            ServersNotUsable: the text is not of the form.
        """
        try:
            content = yaml.safe_load(self.text)
        except yaml.YAMLError as error:
            raise ServersNotUsable(f"{self.path} is not YAML: {error}"[:_REASON_CHARS]) from None
        try:
            servers = _SERVERS.validate_python(content or {})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "its top"
            raise ServersNotUsable(f"{self.path}: {where}: {first['msg']}") from None
        for name, server in servers.items():
            if bool(server.command) == bool(server.url):
                raise ServersNotUsable(f"{self.path}: {name} has either a command or a url")
        return servers
