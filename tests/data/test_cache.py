import numpy as np
import pytest

from bruno.data.cache import cached_arrays, file_identity


class Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"numbers": np.arange(1000), "names": np.array(["a", "ß"])}


@pytest.fixture
def build():
    return Builder()


def assert_right(arrays):
    np.testing.assert_array_equal(arrays["numbers"], np.arange(1000))
    assert arrays["names"].tolist() == ["a", "ß"]


def test_builds_once(build, cache_dir):
    assert_right(cached_arrays("toy", ["v1", 3], build))
    assert_right(cached_arrays("toy", ["v1", 3], build))
    assert build.calls == 1
    assert [path.suffix for path in cache_dir.iterdir()] == [".npz"]


def test_another_key_builds_anew(build):
    for key in (["v1", 3], ["v2", 3], ["v1", 4], {"v1": 3}):
        cached_arrays("toy", key, build)
    assert build.calls == 4


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign", "pickled"])
def test_damaged_files_are_rebuilt(build, cache_dir, damage):
    cached_arrays("toy", "key", build)
    (path,) = cache_dir.iterdir()
    content = path.read_bytes()
    middle = content.index(np.arange(500, 504).tobytes())
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            path.write_bytes(content[:middle] + b"\xff" + content[middle + 1 :])
        case "foreign":
            path.write_text("not an archive")
        case "pickled":
            np.savez(path, numbers=np.array([{}], dtype=object))
    assert_right(cached_arrays("toy", "key", build))
    assert build.calls == 2
    assert_right(cached_arrays("toy", "key", build))
    assert build.calls == 2


def test_unusable_cache_directory_costs_only_speed(build, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BRUNO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    for calls in (1, 2):
        assert_right(cached_arrays("toy", "key", build))
        assert build.calls == calls


def test_full_disk_leaves_nothing_behind(build, cache_dir, monkeypatch):
    def fail(file, **_):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", fail)
    assert_right(cached_arrays("toy", "key", build))
    assert list(cache_dir.iterdir()) == []


def test_errors_of_the_builder_pass_through():
    def broken():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        cached_arrays("toy", "key", broken)


def test_file_identity_sees_changes(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    before = file_identity([path])
    assert file_identity([path]) == before
    path.write_text("three")
    assert file_identity([path]) != before
