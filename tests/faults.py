"""A disk that fails: calls that change files are counted, and from a chosen one on go wrong."""

import errno
import io
import itertools
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

FAULTS = ("error", "full", "killed")
"""One call fails; every write from one on does; the process is killed at one."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the process tries afterwards has an effect."""


class Disk:
    """Counts the calls that change files below a folder and lets some go wrong.

    Args:
        folder: What the disk holds.
        fault: One of ``FAULTS``, or None for a disk without any.
        at: Number of the call that goes wrong, from 1.

    Attributes:
        calls: How many there were.
        failed: Whether any has gone wrong.
    """

    def __init__(self, folder, fault=None, at=0):
        self.folder, self.fault, self.at = os.path.realpath(folder), fault, at
        self.calls, self.failed = 0, False

    def before(self, kind, path):
        """Raise if this call is to go wrong."""
        if not str(path).startswith(self.folder):
            return
        self.calls += 1
        due = self.fault is not None and self.calls >= self.at
        if self.fault == "error":
            due = self.calls == self.at
        elif self.fault == "full":
            due = due and kind in {"open", "write", "mkdir", "fsync"}
        if due:
            self.failed = True
            raise Killed if self.fault == "killed" else OSError(errno.ENOSPC, "disk full", path)

    def after(self, kind, path, *more):
        """Take note of a call that went well."""


class _File:
    """A file open for writing on such a disk; of a write that fails, half arrives."""

    def __init__(self, file, path, disk):
        self.file, self.path, self.disk = file, path, disk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        try:
            self.disk.before("write", self.path)
        except BaseException:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise
        return self.file.write(content)


@contextmanager
def mounted(disk):
    """Send calls that change files through a :class:`Disk` inside a ``with`` block."""
    real_open, real_descriptor = io.open, os.open
    paths = {}

    def open_file(file, mode="r", *rest, **named):
        if not isinstance(file, (str, Path)) or not set(mode) & set("wxa"):
            return real_open(file, mode, *rest, **named)
        disk.before("open", file)
        opened = real_open(file, mode, *rest, **named)
        paths[opened.fileno()] = Path(file)
        return _File(opened, file, disk)

    def open_descriptor(path, *rest, **named):
        descriptor = real_descriptor(path, *rest, **named)
        paths[descriptor] = path
        return descriptor

    def checked(name):
        real = getattr(os, name)

        def call(path, *rest, **named):
            where = paths[path] if isinstance(path, int) else path
            disk.before(name, where)
            result = real(path, *rest, **named)
            disk.after(name, where, *rest)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "chmod", "mkdir", "fsync"):
            patch.setattr(os, name, checked(name))
        patch.setattr(os, "open", open_descriptor)
        patch.setattr(io, "open", open_file)
        yield disk


def every_fault(folder, write):
    """Yield 1, 2, ... after ``write(1)``, ``write(2)``, ..., each under another fault.

    These are all calls that ``write`` makes, in every way in which they can go wrong.

    Args:
        folder: What the disk holds.
        write: Writes something that depends on the number it is given.
    """
    number = 0
    for fault in FAULTS:
        for at in itertools.count(1):
            number += 1
            with mounted(Disk(folder, fault, at)) as disk:
                try:
                    write(number)
                except (Killed, OSError):
                    assert disk.failed
            yield number
            if not disk.failed:
                break
