"""Where the authority's keys lie: a folder with the seeds, and the ring that is in force.

Every seed is in a file of its own, and one more file, the ring, says which of them are in
force. A change writes new seeds first and then replaces the ring in one step: killed at any
moment, either the old ring counts or the new one.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from bus.errors import IdentityError
from bus.nkey import AgentKey
from bus.ring import Ring, first_ring

_RING: Final = "ring.json"
_FORM: Final = "vllm-swarm/keys/v1"
_FIRST: Final = ("operator", "signing", "system", "log")
_EARLIER: Final = ("operator", "account", "system", "log")
_PRIVATE: Final = 0o600
_RINGS = TypeAdapter(Ring)


class KeyDirectory:
    """The folder with the seeds and the ring."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether keys were made here; not if that was interrupted."""
        return (self.path / _RING).exists() or (self.path / "account.seed").exists()

    def changed_at(self) -> int:
        """A number that is another one once the ring was replaced; 0 without a ring."""
        with suppress(FileNotFoundError):
            status = (self.path / _RING).stat()
            return hash((status.st_mtime_ns, status.st_ino))
        return 0

    def load(self) -> tuple[Ring, dict[str, AgentKey]]:
        """The ring and the private halves of its keys.

        Raises:
            IdentityError: a file is missing or cannot be read; the error names it.
        """
        if not (self.path / _RING).exists():
            return self._load_earlier()
        try:
            document = json.loads((self.path / _RING).read_bytes())
            form = document.pop("form")
            ring = _RINGS.validate_python(document)
        except (OSError, ValueError, KeyError, ValidationError) as error:
            raise IdentityError(f"cannot read the ring of keys at {self.path / _RING}") from error
        if form != _FORM:
            raise IdentityError(f"the ring of keys at {self.path / _RING} is of another version")
        keys = {public: self._seed(name) for public, name in ring.files.items()}
        wrong = [ring.files[public] for public, key in keys.items() if key.public != public]
        if wrong:
            raise IdentityError(f"{self.path / wrong[0]} does not hold the key that it should")
        return ring, keys

    def create(self, ring: Ring, keys: Mapping[str, AgentKey]) -> None:
        """Write new keys.

        Raises:
            IdentityError: there are keys already, or a file cannot be written.
        """
        if self.exists:
            raise IdentityError(f"there are keys in {self.path} already: operator and others")
        publics = (ring.operator, ring.signing[0], ring.system, ring.log)
        files = {public: f"{name}.seed" for public, name in zip(publics, _FIRST, strict=True)}
        self.commit(replace(ring, files=files), keys)

    def commit(self, ring: Ring, keys: Mapping[str, AgentKey]) -> None:
        """Write the seeds that are not there yet, then put the ring in force.

        Raises:
            IdentityError: a file cannot be written.
        """
        files = dict(ring.files)
        for public in (ring.operator, *ring.signing):
            if public not in files:
                kind = "operator" if public == ring.operator else "signing"
                files[public] = f"{kind}-{public[1:13]}.seed"
        needed = {ring.operator, *ring.signing, ring.system, ring.log}
        files = {public: name for public, name in files.items() if public in needed}
        try:
            for public, name in files.items():
                self._write(name, keys[public].export_seed() + "\n")
            document = _RINGS.dump_python(replace(ring, files=files), mode="json")
            self._write(_RING, json.dumps({"form": _FORM, **document}, indent=1))
            self._prune(set(files.values()))
        except OSError as error:
            raise IdentityError(f"cannot write the keys to {self.path}: {error}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the ring meanwhile; for the moment of a change only.

        Raises:
            IdentityError: the folder is missing, or cannot be written.
        """
        try:
            descriptor = os.open(self.path / "ring.lock", os.O_CREAT | os.O_RDWR, _PRIVATE)
        except OSError as error:
            raise IdentityError(f"cannot lock the keys in {self.path}: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _load_earlier(self) -> tuple[Ring, dict[str, AgentKey]]:
        """Keys of a version without a ring: the account's own key signs."""
        if (self.path / "account.seed").exists() and not (self.path / "log.seed").exists():
            raise IdentityError(
                f"there is no log key at {self.path / 'log.seed'}: either it was lost, or an "
                "earlier version made these keys, and a new SWARM_HOME is needed"
            )
        operator, account, system, log = (self._seed(f"{name}.seed") for name in _EARLIER)
        ring = first_ring(
            operator,
            account=account.public,
            signing=account.public,
            system=system.public,
            log=log.public,
        )
        keys = {key.public: key for key in (operator, account, system, log)}
        files = {public: f"{name}.seed" for public, name in zip(keys, _EARLIER, strict=True)}
        return replace(ring, files=files), keys

    def _seed(self, name: str) -> AgentKey:
        path = self.path / name
        try:
            return AgentKey.from_seed(path.read_text())
        except (OSError, IdentityError) as error:
            raise IdentityError(f"cannot read the key at {path}: {error}") from error

    def _write(self, name: str, text: str) -> None:
        """Replace a file in one step; a seed that is there already stays as it is."""
        path, draft = self.path / name, self.path / f".{name}.{os.getpid()}"
        if name.endswith(".seed") and path.exists() and path.read_text() == text:
            return
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _prune(self, used: set[str]) -> None:
        """Remove seeds that count no more, and those that an interrupted change left."""
        left = [*self.path.glob(".*.seed.*"), *self.path.glob(f".{_RING}.*")]
        for kind in ("operator", "signing"):
            left += [path for path in self.path.glob(f"{kind}*.seed") if path.name not in used]
        for path in left:
            path.unlink(missing_ok=True)
