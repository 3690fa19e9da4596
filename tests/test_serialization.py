import hashlib
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bruno import CheckpointError, UserError, serialization
from bruno.paths import user_path
from bruno.serialization import read_data, read_unchanged, write_atomically, write_directory
from tests.faults import FAULTS, Disk, Killed, every_fault, mounted
from tests.fuzzing import fuzz_settings


def content_of(number, names=("a.bin", "b.bin")):
    return {name: f"{name} of {number} ".encode() * (1 + number) for name in names}


def save(path, number, names=("a.bin", "b.bin")):
    files = content_of(number, names)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_directory(path, files, json.dumps({"number": number, "sums": sums}).encode())


def load(path):
    """Return the number of what was saved, having checked all of it."""

    def read(path):
        description = json.loads((path / "config.json").read_bytes())
        names = tuple(description["sums"])
        for name, content in content_of(description["number"], names).items():
            assert read_data(path / name, description["sums"][name]) == content
        return description["number"]

    return read_unchanged(path, read)


def names_in(path):
    return sorted(p.name for p in path.iterdir())


def test_a_directory_is_written_and_replaced(tmp_path):
    path = tmp_path / "deep" / "saved"
    for number in range(3):
        save(path, number)
        assert load(path) == number
        assert names_in(path) == ["a.bin", "b.bin", "config.json"]
    (path / "notes.txt").write_text("mine")
    save(path, 3)
    assert (path / "notes.txt").read_text() == "mine"


def test_whatever_fails_the_old_or_the_new_is_there(tmp_path):
    path = tmp_path / "saved"
    save(path, 0)
    for number in every_fault(tmp_path, lambda number: save(path, number)):
        assert load(path) in (number - 1, number)
        # The next save settles what was left.
        save(path, number)
        assert load(path) == number
        assert names_in(path) == ["a.bin", "b.bin", "config.json"]
    assert number > 40


def test_a_first_save_that_fails_leaves_nothing_or_everything(tmp_path):
    def write(number):
        save(tmp_path / str(number), number)

    for number in every_fault(tmp_path, write):
        path = tmp_path / str(number)
        assert not (path / "config.json").exists() or load(path) == number


def test_a_full_disk_keeps_no_half_written_files(tmp_path):
    path = tmp_path / "saved"
    save(path, 0)
    for at in range(1, 6):
        with mounted(Disk(tmp_path, "full", at)), pytest.raises(OSError, match="disk full"):
            save(path, 1)
        assert [name for name in names_in(path) if not name.endswith(".lock")] == [
            "a.bin",
            "b.bin",
            "config.json",
        ]
        assert load(path) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from([None, *FAULTS]),
        st.integers(1, 30),
        st.sets(st.sampled_from(["a.bin", "b.bin", "c.bin"]), min_size=1).map(sorted).map(tuple),
    ),
    max_size=8,
)


@given(steps)
@fuzz_settings(60)
def test_any_sequence_of_failing_saves_leaves_one_of_them(tmp_path_factory, sequence):
    path = tmp_path_factory.mktemp("any") / "saved"
    possible = {None}
    for number, (fault, at, names) in enumerate(sequence, start=1):
        with mounted(Disk(path, fault, at)) as disk:
            try:
                save(path, number, names)
                possible = {number}
            except (Killed, OSError):
                assert disk.failed
                possible = {*possible, number}
        found = load(path) if (path / "config.json").exists() else None
        assert found in possible
        possible = {found}


class Journal(Disk):
    """Notes what a directory may hold if the power fails: names, and contents of files.

    Until a directory is synced, any of the changes of its names may have reached the disk, and
    until a file is, none of its content.
    """

    def __init__(self, folder):
        super().__init__(folder)
        self.files = {p.name: p.read_bytes() for p in folder.iterdir()}
        self.changes, self.states = [], []

    def after(self, kind, path, *more):
        path = Path(path)
        if kind == "fsync" and path.is_dir():
            for change in self.changes:
                apply(self.files, *change)
            self.changes = []
        elif kind == "fsync":
            self.changes.append((path.name, None, path.read_bytes()))
        elif kind == "replace":
            self.changes.append((path.name, Path(more[0]).name, None))
        elif kind == "unlink":
            self.changes.append((path.name, None, None))
        for kept in itertools.product([True, False], repeat=len(self.changes)):
            files = dict(self.files)
            for change in itertools.compress(self.changes, kept):
                apply(files, *change)
            self.states.append(files)


def apply(files, name, new_name, content):
    """Make a change of a file: another name, another content, or none."""
    if new_name is None and content is None:
        files.pop(name, None)
    elif content is not None:
        files[name] = content
    elif name in files:
        files[new_name] = files.pop(name)


def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    path = tmp_path / "saved"
    save(path, 0)
    with mounted(Journal(path)) as journal:
        save(path, 1)
    found = []
    for number, files in enumerate(journal.states):
        after = tmp_path / f"after{number}"
        after.mkdir()
        for name, content in files.items():
            (after / name).write_bytes(content)
        found.append(load(after))
    assert set(found) == {0, 1}
    assert found[-1] == 1
    assert len(found) > 20


@pytest.mark.parametrize("locks", [True, False])
def test_threads_that_save_to_one_path_and_readers_beside_them(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(serialization, "fcntl", None)
    path, errors, done = tmp_path / "saved", [], threading.Event()
    save(path, 0)

    def attempt(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    def read():
        while not done.is_set():
            load(path)

    def write(first):
        for number in range(first, first + 10):
            save(path, number)

    readers = [threading.Thread(target=attempt, args=[read]) for _ in range(2)]
    writers = [
        threading.Thread(target=attempt, args=[lambda first=i * 100: write(first)])
        for i in range(8)
    ]
    for thread in [*readers, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert load(path) % 100 == 9
    assert names_in(path) == ["a.bin", "b.bin", "config.json"]


SAVE_IN_PROCESSES = """
import os, random, signal, sys, time
from pathlib import Path
from tests.test_serialization import load, names_in, save
path, chance, found = Path(sys.argv[1]), random.Random(0), set()

def forked(numbers):
    child = os.fork()
    if child == 0:
        for number in numbers:
            save(path, number)
        os._exit(0)
    return child

save(path, 0)
start = time.perf_counter()
for number in range(10):
    save(path, number)
one = (time.perf_counter() - start) / 10  # whatever the machine, and whatever else it does
for kill in range(25):
    child = forked(range(1000 * kill + 1, 1000 * kill + 1000))
    time.sleep(chance.uniform(3 * one, 15 * one))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found.add(load(path))
assert len(found) > 10, found
children = [forked(range(first, first + 30)) for first in (0, 100, 200)]
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
assert load(path) % 100 == 29
assert names_in(path) == ["a.bin", "b.bin", "config.json"]
"""


def test_processes_that_are_killed_or_save_at_the_same_time(tmp_path):
    command = [sys.executable, "-c", SAVE_IN_PROCESSES, str(tmp_path / "saved")]
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent)


def test_damage_is_told_from_a_writer_that_came_in_between(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "a.bin").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"a\.bin: is not the file that config\.json"):
        load(tmp_path)
    reads = []

    def read(path):
        reads.append(None)
        if len(reads) == 1:
            save(path, 2)
            raise CheckpointError("half of each")
        return load(path)

    assert read_unchanged(tmp_path, read) == 2
    assert len(reads) == 2


def test_a_path_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "saved"):
        with pytest.raises(UserError, match=r"expected a directory, .*file is a file"):
            save(path, 1)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def content(number):
        return f"{number} ".encode() * 9

    path = tmp_path / "file"
    write_atomically(path, content(0))
    for number in every_fault(tmp_path, lambda number: write_atomically(path, content(number))):
        assert path.read_bytes() in (content(number - 1), content(number))
        write_atomically(path, content(number))
        assert names_in(tmp_path) == ["file"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    for content in (b"first", b"second"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_bytes() == content
    assert names_in(tmp_path / "elsewhere") == ["file"]


def test_what_replaces_a_file_is_as_accessible(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"first")
    path.chmod(0o600)
    write_atomically(path, b"second")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save(tmp_path / "saved", 1)
    (tmp_path / "saved" / "a.bin").chmod(0o640)
    save(tmp_path / "saved", 2)
    assert stat.S_IMODE((tmp_path / "saved" / "a.bin").stat().st_mode) == 0o640


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"through")
    reader.join()
    assert received == [b"through"]
    assert pipe.is_fifo()


def test_paths_as_users_write_them(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_path("~/model") == Path("/home/someone/model")
    assert user_path(Path("~")) == Path("/home/someone")
    assert user_path("~nobody-of-this-name/model") == Path("~nobody-of-this-name/model")
    for wrong in ("", "a\0b"):
        with pytest.raises(UserError, match="out: expected a path"):
            user_path(wrong, "out")
