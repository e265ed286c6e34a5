"""The directory in which one swarm keeps everything: keys, logs, data, run state."""

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import HomeNotUsable

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600

RAY_PATH_BYTES = 40
"""Longest directory in which Ray's sockets fit.

A Unix socket's path has at most 107 bytes, and Ray appends up to 66:
/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.
"""

_FOLDERS = ("keys", "logs", "run", "nats", "postgres", "valkey", "qdrant", "models")

_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "a file is in the way",
    errno.EEXIST: "a file is in the way",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ELOOP: "the path has too many symbolic links",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The paths inside one SWARM_HOME; nothing is read or written by looking at them."""

    root: Path

    @property
    def keys(self) -> Path:
        """Private keys, passwords and tokens, each file 0600."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What a running swarm says of itself: lock, state, progress."""
        return self.root / "run"

    @property
    def nats(self) -> Path:
        """The NATS configuration and the JetStream store."""
        return self.root / "nats"

    @property
    def postgres(self) -> Path:
        """The Postgres cluster."""
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        """The Valkey configuration."""
        return self.root / "valkey"

    @property
    def qdrant(self) -> Path:
        """Qdrant's local mode storage."""
        return self.root / "qdrant"

    @property
    def models(self) -> Path:
        """Prepared model weights."""
        return self.root / "models"

    @property
    def ray(self) -> Path:
        """Ray's session directory: inside the home, or under /tmp where that is too long."""
        inside = self.root / "ray"
        if len(os.fsencode(inside)) <= RAY_PATH_BYTES:
            return inside
        name = f"swarm-{self.instance}"
        short = Path(tempfile.gettempdir()) / name
        return short if len(os.fsencode(short)) <= RAY_PATH_BYTES else Path("/tmp") / name  # nosec B108 # noqa: S108

    @property
    def instance(self) -> str:
        """Sixteen hex digits that tell this home from any other on the machine."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]

    def log(self, part: str) -> Path:
        """The log file of a part."""
        return self.logs / f"{part}.log"

    def ray_token(self) -> Path:
        """The file with the token that guards this swarm's Ray."""
        return self.keys / "ray_token"


def locate(path: Path) -> Home:
    """The home at `path`, made absolute; nothing is touched."""
    return Home(root=Path(os.path.realpath(path.expanduser())))


def open_home(path: Path) -> Home:
    """The home at `path`, created where missing, private to this user, and writable.

    Raises:
        HomeNotUsable: it cannot be created or written, or belongs to someone else.
    """
    home = locate(path)
    own(home.root)
    for folder in _FOLDERS:
        own(home.root / folder, may_be_handed_over=folder == "postgres")
    _try_writing(home)
    return home


def secret(path: Path, *, bytes_of_entropy: int = 32) -> str:
    """The secret kept at `path`, made once; the file is 0600.

    Raises:
        HomeNotUsable: it cannot be read or written.
    """
    try:
        if path.exists():
            return path.read_text().strip()
        value = secrets.token_hex(bytes_of_entropy)
        write_private(path, value.encode())
    except OSError as error:
        raise _unusable(path, error) from error
    return value


def write_private(path: Path, data: bytes) -> None:
    """Replace the file at `path` in one step, readable by this user only.

    Raises:
        OSError: the disk is full, or the directory cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def own(path: Path, *, may_be_handed_over: bool = False) -> None:
    """Make `path` a directory of this user with mode 0700.

    Raises:
        HomeNotUsable: it cannot be made, or is not ours.
    """
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise HomeNotUsable(f"Cannot use {path}: it is not a directory.")
        mine = status.st_uid == os.geteuid() or (may_be_handed_over and os.geteuid() == 0)
        if not mine:
            raise HomeNotUsable(f"Cannot use {path}: it belongs to user {status.st_uid}.")
        if stat.S_IMODE(status.st_mode) != PRIVATE_DIRECTORY:
            path.chmod(PRIVATE_DIRECTORY)
    except OSError as error:
        raise _unusable(path, error) from error


def _try_writing(home: Home) -> None:
    """A full disk shows itself only when something is written."""
    probe = home.run / ".writable"
    try:
        write_private(probe, b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise _unusable(home.root, error) from error


def _unusable(path: Path, error: OSError) -> HomeNotUsable:
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return HomeNotUsable(f"Cannot use {path}: {reason}.")
