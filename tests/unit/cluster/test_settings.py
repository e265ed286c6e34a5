from pathlib import Path

import pytest

from cluster.errors import ConfigurationError
from cluster.settings import CPU_PROFILE, MARKER, Settings, child_environment


@pytest.fixture(autouse=True)
def _somewhere_without_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MARKER, raising=False)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("SWARM_GATEWAY_PORT", "http", "valid integer"),
        ("SWARM_GATEWAY_PORT", "70000", "less than or equal to 65535"),
        ("SWARM_LEASE_S", "0", "greater than 0"),
        ("SWARM_NATS_SYNC", "sometimes", "'always' or 'default'"),
        ("SWARM_AGENTS", "coder", "coder=2,tester=1"),
        ("SWARM_REGISTRATION", "maybe", "'closed' or 'open'"),
        ("SWARM_TRUSTED_PROXIES", "10.0.0.1/8", "not a network"),
        ("SWARM_TRUSTED_PROXIES", "proxy.example", "not a network"),
        ("SWARM_AGENTS", "wizard=1", "no role is called wizard"),
        ("SWARM_AGENTS", "coder=0", "1 to 64"),
        ("SWARM_GATEWAY_ORIGINS", "app.example", "not an origin"),
        ("SWARM_GATEWAY_ORIGINS", "https://app.example/", "not an origin"),
        ("SWARM_GATEWAY_ORIGINS", "*", "not an origin"),
        ("SWARM_GATEWAY_TLS_KEY", "gateway.key", "given together"),
        ("NATS_URL", "broker:4222", "expected a URL such as nats://host:port"),
        ("SWARM_DATABASE_URL", "mysql://db", "expected a URL such as postgresql://host:port"),
        ("RAY_ADDRESS", "auto", "host:port"),
        ("VLLM_MAX_MODEL_LEN", "-1", "greater than or equal to 16"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "1.5", "less than or equal to 1"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value).startswith(f"{variable} cannot be used")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWARM_GATWAY_PORT", "8000")
    with pytest.raises(ConfigurationError, match="Did you mean SWARM_GATEWAY_PORT"):
        Settings.load()


@pytest.mark.parametrize(
    "line", ["SWARM_WITNESES=x", "SWARM_WITNESES=", "SWARM_WITNESES", "export swarm_witneses='x y'"]
)
def test_a_misspelt_name_in_the_file_is_refused_with_the_nearest_name(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / ".env").write_text(f"SWARM_LEASE_S=3\n{line}\nOTHER=1\n")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert str(caught.value) == (
        "SWARM_WITNESES in .env is not a setting. Did you mean SWARM_WITNESSES?"
    )


def test_the_file_may_hold_names_of_other_programs_and_every_one_of_ours(
    tmp_path: Path,
) -> None:
    names = [f"SWARM_{name.upper()}=" for name in Settings.model_fields]
    others = ["OTHER=1", "SWARMING=1", "POSTGRES_PASSWORD=x", "# SWARM_WITNESES=x", "nonsense"]
    (tmp_path / ".env").write_text("\n".join([*names, *others, "SWARM_LEASE_S=3"]))
    assert Settings.load().lease_s == 3


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SWARM_LEASE_S=\xff\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load()


def test_a_bad_url_is_not_repeated_because_it_may_hold_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://me:hunter2@db")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "secrets"),
    [
        ("DATABASE_URL", "postgresql://swarm:Tr0ub4/dor@db/swarm", ("Tr0ub4", "dor")),
        ("DATABASE_URL", "postgresql://swarm:Tr0ub4#dor@db/swarm", ("Tr0ub4", "dor")),
        ("DATABASE_URL", "postgresql://swarm:Tr0ub4?dor@db/swarm?sslmode=require", ("Tr0ub4",)),
        ("DATABASE_URL", "postgresql://swarm:4711/dor@db/swarm", ("4711", "dor")),
        ("DATABASE_URL", "postgresql://swarm:4711#dor@db/swarm", ("4711", "dor")),
        ("DATABASE_URL", "postgresql://swarm:4711?dor@db/swarm?sslmode=require", ("4711", "dor")),
        ("DATABASE_URL", "postgresql://swarm:Tr0@ub4/dor@db/swarm", ("Tr0", "ub4", "dor")),
        ("DATABASE_URL", "postgresql://swarm:Tr0[ub4]dor@db/swarm", ("Tr0", "ub4", "dor")),
        ("DATABASE_URL", "postgresql://swarm:Tr0ub4\u2100dor@db/swarm", ("Tr0ub4", "dor")),
        ("SWARM_REDIS_URL", "redis://:Tr0ub4/dor@cache:6379/0", ("Tr0ub4", "dor")),
        ("SWARM_REDIS_URL", "redis://:hunter2@cache:70000/0", ("hunter2",)),
        ("NATS_URL", "nats://broker:port", ()),
        ("SWARM_FALLBACK_URL", "https://me:Tr0ub4/dor@llm.example/v1", ("Tr0ub4", "dor")),
        ("SWARM_FALLBACK_URL", "https://llm.example:70000/v1", ()),
    ],
)
def test_a_url_that_its_password_cuts_short_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, secrets: tuple[str, ...]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    told = str(caught.value)
    assert told.startswith(f"{variable} cannot be used: ")
    assert "must be percent-encoded" in told
    assert "a number up to 65535" in told
    assert not [secret for secret in secrets if secret in told]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://swarm:Tr0%2Fub4%40dor@db:5432/swarm",
        "postgresql://swarm:Tr0@ub4@db/swarm",
        "postgresql://db/swarm?user=me@server&sslmode=require",
        "postgresql://swarm:pw@[::1]:5432/swarm",
    ],
)
def test_a_url_whose_parts_can_be_told_apart_is_taken(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    taken = Settings.load().database_url
    assert taken is not None
    assert taken.get_secret_value() == url


@pytest.mark.parametrize("variable", ["NATS_URL", "SWARM_NATS_URL"])
def test_an_external_server_is_named_with_or_without_our_prefix(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nats://broker:4222")
    url = Settings.load().nats_url
    assert url is not None
    assert url.get_secret_value() == "nats://broker:4222"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "")
    monkeypatch.setenv("SWARM_GATEWAY_PORT", "")
    settings = Settings.load()
    assert settings.nats_url is None
    assert settings.gateway_port is None


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SWARM_LEASE_S=3\nSWARM_NATS_SYNC=default\nOTHER=1\n")
    monkeypatch.setenv("SWARM_LEASE_S", "4")
    settings = Settings.load()
    assert settings.lease_s == 4
    assert settings.nats_sync == "default"


def test_every_role_has_one_agent_unless_more_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWARM_AGENTS", "coder=3, tester=2")
    settings = Settings.load()
    assert [settings.agents_of(role) for role in ("coder", "tester", "judge")] == [3, 2, 1]


def test_settings_cross_the_pipe_unchanged_whatever_the_other_side_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Settings(home=tmp_path, redis_url="redis://:pw@cache", agents={"coder": 2})
    line = sent.to_wire()
    monkeypatch.setenv("SWARM_NATS_URL", "nats://elsewhere:1")
    monkeypatch.setenv("SWARM_REDIS_URL", "redis://elsewhere")
    assert "\n" not in line
    assert Settings.from_wire(line) == sent


def test_secrets_do_not_show_in_the_representation() -> None:
    assert "hunter2" not in repr(Settings(database_url="postgresql://me:hunter2@db/swarm"))


def test_the_profile_is_the_small_one_where_no_gpu_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Settings().profile() == CPU_PROFILE
    assert Settings(model_profile="scripted").profile() == "scripted"


def test_a_child_gets_no_setting_of_ours_and_no_foreign_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@db/swarm")
    monkeypatch.setenv("SWARM_LEASE_S", "9")
    monkeypatch.setenv("RAY_ADDRESS", "other:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hunter2")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    environment = child_environment(Settings(home=tmp_path, ray_address=None))
    assert "hunter2" not in str(environment)
    assert not {"SWARM_LEASE_S", "RAY_ADDRESS", "PYTHONDONTWRITEBYTECODE"} & set(environment)
    assert environment["HTTPS_PROXY"] == "kept"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "keys" / "ray_token")


def test_an_external_ray_keeps_the_token_that_the_user_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    environment = child_environment(Settings(home=tmp_path, ray_address="head:6379"))
    assert environment["RAY_AUTH_TOKEN"] == "theirs"
    assert environment.get("RAY_AUTH_TOKEN_PATH") is None


def test_the_example_file_names_every_setting() -> None:
    example = (Path(__file__).parents[3] / ".env.example").read_text()
    missing = [
        name
        for name, field in Settings.model_fields.items()
        if (name.upper() if field.validation_alias else f"SWARM_{name.upper()}") not in example
    ]
    assert missing == []


def test_a_certificate_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_GATEWAY_TLS_CERTIFICATE", "gateway.crt")
    with pytest.raises(ConfigurationError, match="SWARM_GATEWAY_TLS_KEY.*given together"):
        Settings.load()


def test_tls_and_origins_travel_to_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_GATEWAY_TLS_CERTIFICATE", "gateway.crt")
    monkeypatch.setenv("SWARM_GATEWAY_TLS_KEY", "gateway.key")
    monkeypatch.setenv("SWARM_GATEWAY_ORIGINS", "https://app.example, http://localhost:5173")
    settings = Settings.load()
    assert settings.gateway_origins == ("https://app.example", "http://localhost:5173")
    assert settings.gateway_tls_key == Path.cwd() / "gateway.key"
    assert Settings.from_wire(settings.to_wire()) == settings


WITNESS = (
    "https://witness.example "
    "witness.example/w1+e75f6532+BAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
)


def test_witnesses_are_read_with_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_WITNESSES", f"{WITNESS}, {WITNESS},")
    settings = Settings.load()
    again = Settings.from_wire(settings.to_wire())
    assert again.witness_addresses() == settings.witness_addresses()
    assert [address.url for address in again.witness_addresses()] == ["https://witness.example"] * 2


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://witness.example", "a URL, a space and its verifier key"),
        (WITNESS.replace("+BAOh", "+BBOh"), "does not belong to its name"),
        (WITNESS.partition(" ")[2], "a URL, a space and its verifier key"),
    ],
)
def test_a_witness_without_a_true_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("SWARM_WITNESSES", value)
    with pytest.raises(ConfigurationError, match="SWARM_WITNESSES cannot be used") as caught:
        Settings.load()
    assert reason in str(caught.value)


def test_trusted_proxies_are_networks_and_none_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.load().trusted_networks() == ()
    monkeypatch.setenv("SWARM_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    settings = Settings.load()
    assert [str(network) for network in settings.trusted_networks()] == ["10.0.0.0/8", "::1/128"]
    assert Settings.from_wire(settings.to_wire()).trusted_networks() == settings.trusted_networks()
    assert settings.registration == "closed"


def test_no_server_of_the_swarm_believes_who_forwards_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uvicorn, which Serve's proxy is, trusts everybody on the machine unless told otherwise."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert child_environment(Settings.load())["FORWARDED_ALLOW_IPS"] == ""


def test_what_embeds_goes_with_what_writes_unless_it_is_named() -> None:
    assert Settings(model_profile="smollm2-135m").embedder() == "all-minilm-l6-v2"
    assert Settings(model_profile="scripted").embedder() == "scripted-embedding"
    named = Settings(model_profile="scripted", embedding_profile="all-minilm-l6-v2")
    assert named.embedder() == "all-minilm-l6-v2"


def test_roles_may_have_models_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARM_MODEL_PROFILE", "qwen3-8b")
    monkeypatch.setenv("SWARM_ROLE_MODELS", "coder=qwen3-32b, judge = qwen3-32b,critic=qwen3-8b")
    settings = Settings.from_wire(Settings.load().to_wire())
    assert settings.role_models["judge"] == "qwen3-32b"
    assert settings.further_profiles() == ("qwen3-32b",)


@pytest.mark.parametrize(
    ("value", "reason"), [("coder", "write it as"), ("coder=", "write it as"), ("x=y", "no role")]
)
def test_models_of_roles_that_cannot_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv("SWARM_ROLE_MODELS", value)
    with pytest.raises(ConfigurationError, match=rf"SWARM_ROLE_MODELS cannot be used.*{reason}"):
        Settings.load()
