"""Looking for what must not be seen: the private halves of a swarm's keys, wherever it writes.

Files of SWARM_HOME/keys are read for what is secret in them; every other place is searched.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.home import Home

_PUBLIC = {"ring.json", "ring.lock", "audit.jwt"}
_SHORTEST = 12
"""Characters of a line that is taken for a secret; shorter ones would be found anywhere."""

Place = tuple[str, bytes]
"""Where something was read, and what."""


def secrets_of(keys: Path) -> dict[str, bytes]:
    """Every secret in a folder of keys, by the file and line that it stands in."""
    found = {
        f"subjects/{path.name}": json.loads(path.read_bytes())["key"].encode()
        for path in sorted(keys.glob("subjects/*.json"))
        if b'"key"' in path.read_bytes()
    }
    for path in sorted(keys.iterdir()):
        if path.name in _PUBLIC or not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            text = line.strip()
            if len(text) >= _SHORTEST and not text.startswith(b"-----"):
                found[f"{path.name}:{number}"] = text
    return found


def seen(secrets: Mapping[str, bytes], places: Iterable[Place]) -> list[str]:
    """Which secret stands where, each sighting as a line; never the secret itself."""
    return [
        f"{name} in {where}"
        for where, content in places
        for name, secret in secrets.items()
        if secret in content
    ]


def files_below(folder: Path) -> Iterator[Place]:
    """Every file below a folder, but sockets and what is gone meanwhile."""
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()


def logs_of(home: Home) -> Iterator[Place]:
    """Its own logs, what it says of itself, and those of Ray, whose sockets are left out."""
    yield from files_below(home.logs)
    yield from files_below(home.run)
    yield from files_below(home.ray)


def told_by(processes: Iterable[psutil.Process]) -> Iterator[Place]:
    """The environments and command lines of processes, as anybody of their user sees them."""
    for process in processes:
        with suppress(OSError, psutil.Error):  # it has ended meanwhile
            for what in ("environ", "cmdline"):
                place = Path(f"/proc/{process.pid}/{what}")
                yield f"{what} of {process.pid} ({process.name()})", place.read_bytes()


def modes(keys: Path) -> set[int]:
    """The permissions of the files in a folder of keys."""
    return {path.stat().st_mode & 0o777 for path in keys.rglob("*") if path.is_file()}
