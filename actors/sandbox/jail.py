"""Builds what the program in the sandbox sees, and puts a process in it.

A root of its own holds the interpreter, its libraries, the test runner and four devices, all of
them read only, and one small file system in memory to write to. Nothing of it is on a disk.
"""

import os
import platform
import resource
import signal
import socket
from pathlib import Path
from typing import Final, NoReturn

from actors.sandbox import system
from actors.sandbox.outcome import Limits
from actors.sandbox.request import Request
from actors.sandbox.seccomp import seccomp_filter

SCRATCH: Final = "/scratch"
_ROOT: Final = "/tmp"  # nosec B108 # noqa: S108 - covered in a mount namespace that nobody else sees
_LIBRARIES: Final = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_DEVICES: Final = ("null", "zero", "random", "urandom")
_WRITABLE: Final = {
    "/work": "work",
    "/tmp": "tmp",  # nosec B108 # noqa: S108 - inside
    "/dev/shm": "shm",  # nosec B108 # noqa: S108 - inside
}
_CANNOT_EXECUTE: Final = 127
_OWN_PROCESSES: Final = 3
"""Those two that run the sandbox, and one more, so that going over the limit can be seen."""
_ADDRESSES_BYTES: Final = 1024 * 1024 * 1024
"""What a process may map besides what it may use: libraries, and stacks that are never touched."""


def build(request: Request) -> int:
    """Make the root and move there; gives a descriptor of /proc, which the program has not.

    Raises:
        OSError: the kernel refuses.
    """
    system.mount("", "/", system.MS_REC | system.MS_PRIVATE)
    trees = [
        *((system.clone_tree(each), each) for each in _LIBRARIES if _is_folder(each)),
        *((system.clone_tree(source), inside) for inside, source in request.shown.items()),
    ]
    devices = [
        (system.clone_tree(f"/dev/{name}", device=True), f"/dev/{name}") for name in _DEVICES
    ]
    system.mount("tmpfs", _ROOT, system.MS_NOSUID, "size=1m,nr_inodes=512,mode=755")
    for tree, inside in (*trees, *devices):
        _attach(tree, inside)
    _link_libraries()
    for inside in request.hidden:
        if Path(_ROOT + inside).is_dir():
            system.mount("tmpfs", _ROOT + inside, system.MS_NOSUID, "size=4k,mode=555")
    socket.sethostname("sandbox")
    limits = request.limits
    Path(_ROOT + SCRATCH).mkdir()
    options = f"size={limits.disk_bytes},nr_inodes={limits.files},mode=755"
    system.mount("tmpfs", _ROOT + SCRATCH, system.MS_NOSUID | system.MS_NODEV, options)
    for inside, name in _WRITABLE.items():
        _open_scratch(inside, name, request.uid)
    proc = _open_proc()
    system.pivot_root(_ROOT)
    _write_files(request.files, request.uid)
    system.seal_mount("/")
    return proc


def enter(request: Request) -> NoReturn:
    """Give up every right, and become the program. Called in a process of its own."""
    try:
        os.setsid()
        _limit(request.limits)
        _give_up(request.uid)
        os.chdir("/work")
        os.execve(request.arguments[0], request.arguments, request.environment)  # nosec B606 # noqa: S606
    except BaseException as error:  # noqa: BLE001 - whatever it is: this process ends here
        os.write(2, f"the sandbox cannot start the program: {error}\n".encode())
    os._exit(_CANNOT_EXECUTE)


def _attach(tree: int, inside: str) -> None:
    target = Path(_ROOT + inside)
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.isdir(tree):  # noqa: PTH112 - of a descriptor
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    system.attach_tree(tree, str(target))


def _is_folder(path: str) -> bool:
    return Path(path).is_dir() and not Path(path).is_symlink()


def _link_libraries() -> None:
    """Where the machine has a link to a folder of libraries, so has the sandbox."""
    for each in _LIBRARIES:
        if (link := Path(each)).is_symlink() and link.is_dir():
            Path(_ROOT + each).symlink_to(link.readlink())


def _open_scratch(inside: str, name: str, uid: int) -> None:
    source = Path(_ROOT + SCRATCH, name)
    source.mkdir(mode=0o700)
    os.chown(source, uid, uid)
    _attach(system.clone_tree(str(source), writable=True), inside)


def _open_proc() -> int:
    """The processes of this namespace, for the warden only."""
    target = _ROOT + "/proc"
    Path(target).mkdir()
    system.mount("proc", target, system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC)
    proc = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    system.detach(target)
    Path(target).rmdir()
    return proc


def _write_files(files: dict[str, str], uid: int) -> None:
    work = Path(SCRATCH, "work")
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for each in (path, *path.relative_to(work).parents):
            os.chown(work / each, uid, uid)


def _limit(limits: Limits) -> None:
    addresses = limits.memory_bytes + _ADDRESSES_BYTES
    for what, most in (
        (resource.RLIMIT_AS, addresses),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes + _OWN_PROCESSES),
        (resource.RLIMIT_RTPRIO, 0),
    ):
        resource.setrlimit(what, (most, most))
    # First a signal that says why; the next second one that cannot be ignored.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))


def _give_up(uid: int) -> None:
    system.drop_bounding_set()
    if os.getuid() != uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    system.drop_capabilities()
    system.gain_nothing()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    system.install_filter(seccomp_filter(platform.machine()))
