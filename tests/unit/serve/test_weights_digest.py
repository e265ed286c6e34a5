"""The digest of a folder of weights, and the note that spares reading it each time."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from serve import weights_digest as module
from serve.weights_digest import NOTE, digest_of, local_folder, source_digest, weights_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "tokenizer").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"w" * 1000)
    (made / "config.json").write_text("{}")
    (made / "tokenizer" / "vocab.txt").write_text("a b")
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    plain = module._sha256

    def noted(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(module, "_sha256", noted)
    return names


def test_the_digest_is_the_one_that_the_documentation_describes(folder: Path) -> None:
    lines = [
        [name, len(content), hashlib.sha256(content).hexdigest()]
        for name, content in (
            ("config.json", b"{}"),
            ("model.safetensors", b"w" * 1000),
            ("tokenizer/vocab.txt", b"a b"),
        )
    ]
    text = json.dumps(lines, separators=(",", ":"))
    assert weights_digest(folder) == hashlib.sha256(text.encode()).hexdigest()


def test_a_second_look_reads_nothing(folder: Path, read: list[str]) -> None:
    first = weights_digest(folder)
    assert sorted(read) == ["config.json", "model.safetensors", "vocab.txt"]
    read.clear()
    assert weights_digest(folder) == first
    assert read == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer/vocab.txt"])
def test_another_content_of_the_same_size_is_another_digest(
    folder: Path, read: list[str], name: str
) -> None:
    first = weights_digest(folder)
    read.clear()
    path = folder / name
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=(1, 1))
    assert weights_digest(folder) != first
    assert read == [path.name]


def test_a_file_that_was_put_in_the_place_of_another_is_read(folder: Path) -> None:
    """As a swap with `mv` does it, with the old time put back."""
    first, path = weights_digest(folder), folder / "model.safetensors"
    status = path.stat()
    other = folder.parent / "other"
    other.write_bytes(b"v" * 1000)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert weights_digest(folder) != first


def test_a_name_counts_and_a_new_file_does(folder: Path) -> None:
    first = weights_digest(folder)
    (folder / "config.json").rename(folder / "other.json")
    renamed = weights_digest(folder)
    (folder / "generation_config.json").write_text("{}")
    assert len({first, renamed, weights_digest(folder)}) == 3


def test_what_is_hidden_or_ours_does_not_count(folder: Path) -> None:
    first = weights_digest(folder)
    (folder / "manifest.json").write_text("{}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    assert (folder / NOTE).is_file()
    assert weights_digest(folder) == first


def test_weights_are_found_behind_links(folder: Path, tmp_path: Path) -> None:
    """As a hub's cache has them."""
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert weights_digest(linked) == weights_digest(folder)


@pytest.mark.parametrize("text", ["", "{}", '{"files": {"config.json": 1}}', "nonsense"])
def test_a_note_that_cannot_be_read_is_made_anew(folder: Path, text: str) -> None:
    first = weights_digest(folder)
    (folder / NOTE).write_text(text)
    assert weights_digest(folder) == first
    assert json.loads((folder / NOTE).read_text())["files"]


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read only")

    first = weights_digest(folder)
    (folder / NOTE).unlink()
    monkeypatch.setattr(Path, "write_text", refuse)
    assert weights_digest(folder) == first


def test_an_engine_without_weights_has_the_digest_of_its_rules() -> None:
    one, two = source_digest("serve.scripted"), source_digest("serve.scripted", "serve.sample")
    assert one != two
    assert digest_of({}) not in (one, two)


def test_a_hub_id_that_was_not_fetched_is_nowhere(folder: Path) -> None:
    assert local_folder(str(folder)) == folder
    assert local_folder("nobody/no-such-model-was-ever-fetched") is None
