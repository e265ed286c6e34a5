"""Everything that can be set from outside, read once; no other module reads the environment."""

import difflib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import DotEnvSettingsSource, NoDecode, SettingsConfigDict, SettingsError

from cluster import home as homes
from cluster.errors import ConfigurationError
from cluster.fallback_settings import PREFIX, FallbackSettings, either, parts_of
from cluster.gateway_settings import GatewaySettings, Port
from storage.cosignature import WitnessAddress
from storage.errors import BadCheckpoint

AGENT_ROLES = (
    "specifier", "planner", "researcher", "architect", "coder", "critic", "tester", "judge",
)  # fmt: skip
MARKER = "SWARM_INSTANCE"
"""In the environment of every process of a swarm, with the digest of its home: how stragglers
of a swarm that was killed are told from everything else on the machine."""

CPU_PROFILE = "smollm2-135m"
EMBEDDING_PROFILE = "all-minilm-l6-v2"
SCRIPTED = ("scripted", "scripted-embedding")
GPU_PROFILE = "phi-3.5-mini"

_environment = os.environ  # noqa: TID251  the one place that reads it

GiB = 1024**3
MiB = 1024**2

Choices = dict[str, int | str]
Positive = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(ge=64 * MiB)]

_SCHEMES = {
    "nats_url": ("nats", "tls"),
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss"),
    "qdrant_url": ("http", "https"),
}
_SECRET = frozenset({*_SCHEMES, *FallbackSettings.model_fields})
"""May hold a password: what cannot be used of them is not repeated."""


class Settings(GatewaySettings, FallbackSettings):
    """The settings of one swarm, from SWARM_ variables and a .env file in the working directory.

    A variable of the environment wins over the file.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",  # a .env holds other programs' variables too; SWARM_ ones are checked
        populate_by_name=True,
        env_ignore_empty=True,
    )

    home: Path = Path("~/.swarm")
    """Where keys, logs and data are kept. A second home is a second swarm."""

    model_profile: str | None = None
    """Which model to serve; None chooses by machine: a small one without a GPU."""

    embedding_profile: str | None = None
    """What turns texts into vectors; None: a small model, or a stand-in beside a scripted model."""

    nats_url: SecretStr | None = Field(None, validation_alias=either("nats_url"))
    """An external NATS that trusts this home's operator (SWARM_HOME/keys); None embeds one."""
    database_url: SecretStr | None = Field(None, validation_alias=either("database_url"))
    """An external Postgres database of which the user is owner; None embeds a server."""
    redis_url: SecretStr | None = Field(None, validation_alias=either("redis_url"))
    """An external Redis or Valkey; None embeds one."""
    qdrant_url: SecretStr | None = Field(None, validation_alias=either("qdrant_url"))
    """An external Qdrant over HTTP; None uses its local mode."""
    ray_address: str | None = Field(None, validation_alias=either("ray_address"))
    """The GCS address (host:port) of a running Ray cluster; None starts one."""

    dashboard_port: Port | None = None
    """Ray's dashboard; None prefers 8265."""
    nats_port: Port = 0
    postgres_port: Port = 0
    redis_port: Port = 0
    ray_port: Port = 0
    """The embedded servers listen on loopback; nobody needs to know where, so a free port."""

    nats_sync: Literal["always", "default"] = "always"
    """When JetStream calls fsync: at each message, so that an acknowledged event survives a power
    cut, or every two minutes ("default"), ten times faster."""
    jetstream_max_bytes: Bytes = 8 * GiB
    """Most that JetStream may keep on disk: three quarters for events, one for their objects."""
    log_max_age_s: Positive | None = None
    """When the events of a run that has ended and is audited leave the stream; None: only once it
    is filled to 80 %. The audit log keeps them."""

    log_check_s: Positive = 5.0
    """Between two looks of the auditor at whether the stream still holds what it has recorded."""

    witnesses: Annotated[tuple[str, ...], NoDecode] = ()
    """Who cosigns the audit log's checkpoints: "URL VERIFIER-KEY", several with commas between.
    Each is asked once a second at most, and holds nothing up when it is down."""

    credential_ttl_s: Annotated[float, Field(ge=3, le=30 * 24 * 3600)] = 3600.0
    """Life of a member's credential; it is renewed after about two thirds. What a thief can do with
    a key that nobody missed ends with it."""

    application: Path | None = None
    """A Python file with workflows and agents of your own; None for those of the swarm only."""
    policy: Path | None = None
    """A YAML file with what each role may do; None for the policy of the swarm. It is put in force
    at the start: see `swarm policy check`."""
    code_tool: bool = False
    """Whether the coder and the tester may run Python code of models, in a sandbox: no network, no
    files but their own, limits on time and memory. Needs Linux with user namespaces."""
    mcp_servers: Path | None = None
    """A YAML file with MCP servers, and the roles whose agents may use their tools where the policy
    names those; None for no servers."""
    agents: Annotated[dict[str, int], NoDecode] = Field(default_factory=dict)
    """Agents per role, as "coder=2,tester=2"; one of each role not named."""
    role_models: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Roles that ask a model of their own, and its profile, as "coder=qwen3-8b,judge=qwen3-32b";
    each profile is served once, beside the one for everybody else."""
    lease_s: Positive = 2.5
    """How long an agent may be silent before its step goes to another one; it speaks three times
    as often. A step stands still for so long when its agent is killed."""
    scripted_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """How long the scripted model pretends to think; for demonstrations and fault tests."""

    vllm_gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, validation_alias=either("vllm_gpu_memory_utilization")
    )
    """Share of the GPU's memory that vLLM takes; None leaves it to the profile."""
    vllm_max_model_len: Annotated[int, Field(ge=16)] | None = Field(
        None, validation_alias=either("vllm_max_model_len")
    )
    """Longest context in tokens; None leaves it to the profile."""

    ray_num_cpus: Annotated[int, Field(ge=1)] | None = None
    """Logical CPUs that Ray hands out; None: those of the machine, at least four."""
    ray_object_store_bytes: Bytes = 200 * MiB
    """Ray's shared memory: events travel on NATS, so little is needed."""

    start_timeout_s: Positive = 900.0
    """A first start prepares model weights and compiles bytecode on a slow machine."""
    stop_timeout_s: Positive = 30.0
    """How long a stop may take before what is left is killed."""

    @field_validator("agents", "role_models", mode="before")
    @classmethod
    def _parse_pairs(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        cut = (pair.partition("=") for pair in value.split(",") if pair.strip())
        pairs = {role.strip(): chosen.strip() for role, _, chosen in cut}
        if info.field_name == "agents" and not all(each.isdecimal() for each in pairs.values()):
            raise ValueError('write it as "coder=2,tester=1"')
        if not all(pairs.values()):
            raise ValueError('write it as "coder=qwen3-8b,judge=qwen3-32b"')
        return pairs

    @field_validator("witnesses", mode="before")
    @classmethod
    def _parse_witnesses(cls, value: object) -> object:
        """As text that `WitnessAddress.parse` reads."""
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            return value
        try:
            return tuple(str(WitnessAddress.parse(text)) for text in texts if text.strip())
        except BadCheckpoint as error:
            raise ValueError(str(error).rstrip(".")) from None

    @field_validator("application", "policy", "gateway_tls_certificate", "gateway_tls_key")
    @classmethod
    def _place(cls, value: Path | None) -> Path | None:
        """The supervisor works in another folder."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("agents", "role_models")
    @classmethod
    def _check_roles(cls, value: Choices, info: ValidationInfo) -> Choices:
        unknown = sorted(set(value) - set(AGENT_ROLES))
        if unknown and info.data.get("application") is None:  # it may have any role
            raise ValueError(f"no role is called {unknown[0]}; there are {', '.join(AGENT_ROLES)}")
        counts = [chosen for chosen in value.values() if isinstance(chosen, int)]
        if any(not 1 <= count <= 64 for count in counts):  # noqa: PLR2004
            raise ValueError("a role has 1 to 64 agents")
        return value

    @field_validator(*_SCHEMES)
    @classmethod
    def _check_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = _SCHEMES[info.field_name or ""]
        if value is not None:
            parts = parts_of(value.get_secret_value())
            if parts.scheme not in schemes or not parts.hostname:
                raise ValueError(f"expected a URL such as {schemes[0]}://host:port")
        return value

    @field_validator("ray_address")
    @classmethod
    def _check_ray_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[\w.:\[\]-]+:\d{1,5}", value):
            raise ValueError("expected host:port of the cluster's GCS")
        return value

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises:
            ConfigurationError: naming the variable, and what is wrong with its value.
        """
        _refuse_unknown(_environment)
        try:
            file = DotEnvSettingsSource(cls, env_ignore_empty=False)
            _refuse_unknown((name.upper() for name in file.env_vars), " in .env")
            return cls()
        except ValidationError as error:
            raise ConfigurationError(_sentence(error)) from None
        except (SettingsError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The settings cannot be read: {error}.") from error

    def to_wire(self) -> str:
        """One line with everything, secrets included: for a pipe to a child process only."""
        plain = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }
        return json.dumps(plain, default=str)

    @classmethod
    def from_wire(cls, line: str) -> Self:
        """What `to_wire` wrote, whatever this process's own environment says."""
        return cls(_env_file=None, **json.loads(line))

    def agents_of(self, role: str) -> int:
        """How many agents the role has."""
        return self.agents.get(role, 1)

    def witness_addresses(self) -> tuple[WitnessAddress, ...]:
        """Who is asked to cosign the audit log's checkpoints."""
        return tuple(WitnessAddress.parse(text) for text in self.witnesses)

    def profile(self) -> str:
        """The model profile that was asked for, or the one for this machine."""
        return self.model_profile or (GPU_PROFILE if gpu_found() else CPU_PROFILE)

    def further_profiles(self) -> tuple[str, ...]:
        """The profiles of roles that have a model of their own, each once."""
        return tuple(sorted(set(self.role_models.values()) - {self.profile()}))

    def embedder(self) -> str:
        """The profile of the embedding model that was asked for, or the one that goes with it."""
        writing, embedding = SCRIPTED
        beside = embedding if self.profile() == writing else EMBEDDING_PROFILE
        return self.embedding_profile or beside

    def located_home(self) -> homes.Home:
        """The home's paths; nothing is created."""
        return homes.locate(self.home)


def gpu_found() -> bool:
    """Whether an NVIDIA GPU is visible to this process."""
    return Path("/dev/nvidia0").exists() and visible_gpus() != ""


def visible_gpus() -> str | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process; None where it leaves all."""
    return _environment.get("CUDA_VISIBLE_DEVICES")


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment for every process that the swarm starts.

    It carries no setting of ours: those are passed as values.
    """
    home = settings.located_home()
    dropped = {n.upper() for n, field in Settings.model_fields.items() if field.validation_alias}
    if settings.fallback == "none":  # the user's own agents may need them
        dropped -= {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}
    dropped.add("PYTHONDONTWRITEBYTECODE")  # imports dominate the start: let them be cached
    environment = {
        name: value
        for name, value in _environment.items()
        if name not in dropped and not name.startswith(PREFIX)
    }
    environment[MARKER] = home.instance
    environment["RAY_USAGE_STATS_ENABLED"] = "0"
    # Serve's HTTP server would believe the X-Forwarded-For of whoever is on this machine.
    environment["FORWARDED_ALLOW_IPS"] = ""
    if settings.ray_address is None:
        environment.pop("RAY_AUTH_TOKEN", None)
        environment["RAY_AUTH_MODE"] = "token"
        environment["RAY_AUTH_TOKEN_PATH"] = str(home.ray_token())
        # Ray would replace a loopback address by the network's; this keeps it from that, on any
        # system, whatever the name says.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    root = Path(__file__).resolve().parent.parent
    if root.name != "site-packages":  # a source tree: Ray's workers must find it too
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{inherited}" if inherited else str(root)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def _refuse_unknown(names: Iterable[str], place: str = "") -> None:
    """A misspelt variable would be ignored silently otherwise."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {MARKER}
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            suggestion = f" Did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{name}{place} is not a setting.{suggestion}")


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    field = name.upper().removeprefix(PREFIX).lower()
    variable = PREFIX + field.upper()
    if variable not in _environment and field.upper() in _environment:
        variable = field.upper()
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    shown = "" if field in _SECRET else f" ({first['input']!r})"
    return f"{variable} cannot be used{shown}: {reason}."
