"""Files and directories on disk that are old or new as a whole, whatever interrupts the writer.

A single file (:func:`write_atomically`) is written beside its place, flushed to the disk, and
renamed onto it.

A directory (:func:`write_directory`) holds data files and one ``config.json`` that names the
SHA-256 of each. POSIX has no call that replaces a directory, so the rename of ``config.json`` is
the one moment at which the new content becomes valid:

1. every data file is written as ``.NAME.pending`` and flushed; the old files stay untouched;
2. ``config.json`` is replaced;
3. the pending files are renamed onto their names.

A reader takes ``config.json`` first and then, for every data file, the pending or the published
one, whichever has the SHA-256 that ``config.json`` names. So a full disk, an exception, SIGKILL or
a power failure before 2 leaves the old content, and after 2 the new. The next writer settles what
an interrupted one left: a pending file that ``config.json`` names is published, any other removed.
Published names never change, so programs that use only these read every directory that was written
without interruption.

Writers of one path take turns, threads and processes alike, by a lock file that exists only
meanwhile. The operating system frees the lock of a process that dies. Readers need no lock, and no
permission to write: :func:`read_unchanged` reads again where a writer came in between. On file
systems without locks (and on Windows) only threads of one process take turns.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bruno.errors import CheckpointError, UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CONFIG_FILE = "config.json"

_PENDING = ".pending"
_PARTIAL = ".partial"  # never valid, unlike a pending file
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_threads = threading.Lock()

Content = TypeVar("Content")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that, whatever happens meanwhile, is the old one or the new one.

    A symbolic link stays one, and the file it points to is replaced. Devices, pipes and other
    special files are written to.

    Args:
        path: The file; its directory exists.
        content: Everything that is to be in it.

    Raises:
        OSError: If it cannot be written; then the old file is still there.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    with _alone(path):
        partial = path.with_name(f".{path.name}{_PARTIAL}")
        try:
            _write(partial, content, path)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _sync(path.parent)


def write_directory(path: Path, files: Mapping[str, bytes], description: bytes) -> None:
    """Write a directory whose files belong together; a reader finds all old or all new.

    Other files in the directory are left alone.

    Args:
        path: The directory, made if it is not there.
        files: The data files by name.
        description: Content of ``config.json``; it must name the SHA-256 of every data file,
            in hexadecimal.

    Raises:
        UserError: If the path is one of a file.
        OSError: If it cannot be written; then the old content is still there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        parts = (path, *path.parents)
        file = next((part for part in parts if part.exists() and not part.is_dir()), path)
        raise UserError(f"path: expected a directory, {file} is a file") from None
    config = path / CONFIG_FILE
    with _alone(config):
        _settle(path)
        try:
            for name, content in files.items():
                _write(_pending(path / name), content, path / name)
            _write(_pending(config), description, config)
            _sync(path)
            _pending(config).replace(config)
            # The new description must be on the disk before the old data files are replaced.
            _sync(path)
        finally:
            _settle(path)


def read_data(path: Path, sha256: str) -> bytes:
    """Return the content of a data file of a directory.

    Args:
        path: The file, by its published name.
        sha256: Its SHA-256 in ``config.json``.

    Raises:
        CheckpointError: If the file has another SHA-256.
        OSError: If it cannot be read.
    """
    pending = _pending(path)
    if pending.is_file():
        # A writer may publish or remove it at any moment.
        try:
            content = pending.read_bytes()
        except FileNotFoundError:
            content = b""
        if _digest(content) == sha256:
            return content
    content = path.read_bytes()
    if _digest(content) != sha256:
        raise CheckpointError(
            f"{path}: is not the file that {CONFIG_FILE} describes (its SHA-256 differs); it is "
            "damaged or was exchanged"
        )
    return content


def read_unchanged(path: Path, read: Callable[[Path], Content]) -> Content:
    """Return ``read(path)`` of a directory, repeated until no writer came in between.

    Args:
        path: The directory.
        read: Reads it, ``config.json`` first.

    Raises:
        CheckpointError: As ``read`` raises it for a directory that nobody is writing.
    """
    while True:
        before = _version(path)
        try:
            content = read(path)
        except CheckpointError:
            if _version(path) == before:
                raise
        else:
            if _version(path) == before:
                return content


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return the inode, time and size of ``config.json``, which differ after every write."""
    try:
        status = (path / CONFIG_FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _pending(path: Path) -> Path:
    return path.with_name(f".{path.name}{_PENDING}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes, target: Path) -> None:
    """Write a file, on the disk on return, that is to replace another and be as accessible."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if target.exists():
        path.chmod(target.stat().st_mode & 0o7777)


def _settle(path: Path) -> None:
    """Publish the pending files that ``config.json`` names and remove all others."""
    try:
        description = (path / CONFIG_FILE).read_bytes()
    except FileNotFoundError:
        description = b""
    for pending in path.glob(f".*{_PENDING}"):
        if _digest(pending.read_bytes()).encode() in description:
            pending.replace(path / pending.name[1:].removesuffix(_PENDING))
        else:
            pending.unlink()
    _sync(path)


def _sync(directory: Path) -> None:
    """Bring the names in a directory to the disk."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot, for directories
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other writers of a path waiting."""
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("ab") as file, _locked(file.fileno()):
            if not _is_at(file.fileno(), lock):
                continue  # whoever held it has removed it: another file has its name, or none
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Wait for the lock of an open file and hold it until the file is closed."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no file locks")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    else:
        yield
        return
    with _threads:
        yield


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
