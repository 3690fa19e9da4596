"""What all tests share: a cache of their own, and the real data where it is on this machine."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from tests.fuzzing import VARIABLE


def pytest_addoption(parser):
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=None,
        help="examples of every fuzz test, for long runs",
    )


def pytest_configure(config):
    # Fuzz tests take their settings when they are imported.
    if config.getoption("--fuzz-examples"):
        os.environ[VARIABLE] = str(config.getoption("--fuzz-examples"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache that is empty at first; processes that share the tests share it, too."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a folder in that of the whole run
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRUNO_CACHE_DIR", str(folder / "bruno-cache"))
        yield


@pytest.fixture(scope="module", autouse=True)
def own_threads():
    """Put back what a server sets for its process: threads decide how a sum is rounded."""
    threads, interval = torch.get_num_threads(), sys.getswitchinterval()
    yield
    torch.set_num_threads(threads)
    sys.setswitchinterval(interval)


@pytest.fixture
def real_data():
    """The folder of real data, as a function of the data set needed from it."""

    def folder_with(dataset_folder: str) -> Path:
        given = os.environ.get("BRUNO_DATA_DIR")
        if not given or not (Path(given) / dataset_folder).is_dir():
            pytest.skip(f"no {dataset_folder} in BRUNO_DATA_DIR={given}")
        return Path(given).resolve()

    return folder_with


def pytest_sessionstart():
    # A shell starts background jobs with SIGINT ignored, and they would pass that on.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
