"""The SHA-256 of a folder of weights: another model under the same name has another one.

It covers every file of a model (weights, configuration, tokenizer, chat template) with its name
and size. Reading gigabytes takes seconds, so the digest of each file is kept beside them and
taken again where size, time of change or inode differ. Whoever can write the folder can write
that note too: the digest tells of a swap, it does not prevent a forgery.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

log = structlog.get_logger()

NOTE: Final = ".weights-digest.json"
_OF_OURS: Final = frozenset({"manifest.json"})
"""What serve/weights.py notes of its making says nothing about the model."""


class _Seen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    changed_ns: int
    inode: int
    sha256: str


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    files: Mapping[str, _Seen]


def weights_digest(folder: Path) -> str:
    """Hex SHA-256 over the files of a folder, as docs/evidence.md describes it.

    Reads what was changed since the last time; blocks while it does.

    Raises:
        OSError: a file cannot be read.
    """
    known = _read_note(folder)
    seen = {name: _look(path, known.get(name)) for name, path in _files(folder)}
    if seen != known:
        _write_note(folder, seen)
    return digest_of({name: (file.size, file.sha256) for name, file in seen.items()})


def known_digest(weights: str) -> str:
    """The digest of what an engine is going to load; empty where it is still to be fetched."""
    folder = local_folder(weights)
    if folder is None:
        log.warning("weights.digest_unknown", weights=weights, reason="not on this node yet")
        return ""
    return weights_digest(folder)


def digest_of(files: Mapping[str, tuple[int, str]]) -> str:
    """Hex SHA-256 of the sorted names, each with the file's size in bytes and hex SHA-256."""
    lines = [[name, *files[name]] for name in sorted(files)]
    return hashlib.sha256(to_json(lines)).hexdigest()


def source_digest(*modules: str) -> str:
    """Hex SHA-256 of the text of modules: the rules of an engine that has no weights.

    Raises:
        OSError: the text is not there to be read.
    """
    found = [find_spec(module) for module in modules]
    paths = [Path(spec.origin) for spec in found if spec is not None and spec.origin]
    return digest_of({path.name: (path.stat().st_size, _sha256(path)) for path in paths})


def local_folder(weights: str) -> Path | None:
    """Where the weights of a profile are on this node; None where that is not known.

    Args:
        weights: a folder, or a hub id that was fetched before.
    """
    if Path(weights).is_dir():
        return Path(weights)
    with suppress(ImportError, OSError, ValueError):
        from huggingface_hub import snapshot_download  # noqa: PLC0415  # comes with vLLM

        return Path(snapshot_download(weights, local_files_only=True))  # nosec B615
    return None


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below a folder by relative name; links are followed, what is hidden is not."""
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and name not in _OF_OURS:
                yield path.relative_to(folder).as_posix(), path


def _look(path: Path, known: _Seen | None) -> _Seen:
    status = path.stat()
    now = (status.st_size, status.st_mtime_ns, status.st_ino)
    if known is not None and (known.size, known.changed_ns, known.inode) == now:
        return known
    size, changed_ns, inode = now
    return _Seen(size=size, changed_ns=changed_ns, inode=inode, sha256=_sha256(path))


def _read_note(folder: Path) -> Mapping[str, _Seen]:
    try:
        return _Note.model_validate_json((folder / NOTE).read_bytes()).files
    except (OSError, ValidationError):
        return {}


def _write_note(folder: Path, seen: Mapping[str, _Seen]) -> None:
    """A folder that nobody may write to is read again each time."""
    draft = folder / f"{NOTE}.{os.getpid()}"
    try:
        draft.write_text(_Note(files=seen).model_dump_json(), encoding="utf-8")
        draft.replace(folder / NOTE)
    except OSError as error:
        log.info("weights.digest_not_kept", folder=str(folder), reason=str(error))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
