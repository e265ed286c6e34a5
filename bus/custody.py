"""Where the keys of the persons lie whom the log says something about: a file for each.

Whoever destroys a key leaves a file in its place that says so: no other one is made for that
person. All of it is short work on the disk, to be done off an event loop.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bus.errors import IdentityError, MalformedEvent, SubjectKeyUnavailable
from bus.nkey import decode_base64url, encode_base64url
from bus.sealing import SUBJECT_KEY_BYTES

FOLDER: Final = "subjects"
_PRIVATE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """That a key was destroyed, and when."""

    at: datetime


class SubjectKeyDirectory:
    """The folder with the keys."""

    def __init__(self, path: Path) -> None:
        """Take the folder; it is made when the first key is."""
        self.path = path

    def find(self, subject: str) -> bytes | Forgotten | None:
        """The person's key, or that it was destroyed; None if there never was one.

        Raises:
            IdentityError: the file does not hold a key.
            SubjectKeyUnavailable: it cannot be read now.
        """
        path = self._file(subject)
        try:
            text = path.read_bytes()
            if not text.strip():  # whoever destroyed it came no further
                return Forgotten(at=datetime.fromtimestamp(path.stat().st_mtime, UTC))
            told = json.loads(text)
            if "forgotten" in told:
                return Forgotten(at=datetime.fromisoformat(told["forgotten"]))
            return decode_base64url(told["key"], length=SUBJECT_KEY_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SubjectKeyUnavailable(f"cannot read the key of a person at {path}") from error
        except (ValueError, KeyError, TypeError, MalformedEvent) as error:
            raise IdentityError(f"cannot read the key of a person at {path}") from error

    def find_or_make(self, subject: str) -> bytes | Forgotten:
        """The person's key, made now if there is none; or that it was destroyed.

        Whoever else makes it at the same time gets the same.

        Raises:
            IdentityError: the file cannot be written, or does not hold a key.
            SubjectKeyUnavailable: it cannot be read now.
        """
        found = self.find(subject)
        if found is not None:
            return found
        self._write(subject, {"key": encode_base64url(os.urandom(SUBJECT_KEY_BYTES))}, new=True)
        made = self.find(subject)
        if made is None:
            raise IdentityError(f"the key of a person at {self._file(subject)} went away")
        return made

    def forget(self, subject: str, *, now: datetime) -> Forgotten:
        """Destroy the person's key for good; once destroyed, that stays as it is.

        Its bytes are overwritten first. A disk may keep older ones, and so does a backup.

        Raises:
            IdentityError: the file cannot be written, or does not hold a key.
            SubjectKeyUnavailable: it cannot be read now.
        """
        found = self.find(subject)
        forgotten = found if isinstance(found, Forgotten) else Forgotten(at=now.astimezone(UTC))
        if found is not None:
            self._overwrite(self._file(subject))
        self._write(subject, {"forgotten": forgotten.at.isoformat()}, new=False)
        return forgotten

    def _file(self, subject: str) -> Path:
        """Named by a hash: who a person is does not make a path."""
        return self.path / f"{hashlib.sha256(subject.encode()).hexdigest()[:32]}.json"

    def _write(self, subject: str, told: dict[str, str], *, new: bool) -> None:
        """Put the file there in one step; a new one only where there is none."""
        path = self._file(subject)
        draft = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
        try:
            self.path.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump({"subject": subject, **told}, file)
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    with suppress(FileExistsError):
                        os.link(draft, path)
                else:
                    draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
            self._settle()
        except OSError as error:
            raise IdentityError(f"cannot write the key of a person to {path}: {error}") from error

    def _overwrite(self, path: Path) -> None:
        try:
            with path.open("r+b") as file:
                file.write(b" " * path.stat().st_size)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise IdentityError(f"cannot destroy the key of a person at {path}") from error

    def _settle(self) -> None:
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
