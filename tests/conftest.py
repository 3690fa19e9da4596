"""What all tests share: a cache of their own, and the real data where it is on this machine."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRUNO_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def real_data():
    """The folder of real data, as a function of the data set needed from it."""

    def folder_with(dataset_folder: str) -> Path:
        given = os.environ.get("BRUNO_DATA_DIR")
        folder = Path(given) if given else REPOSITORY.parent / "shared" / "data"
        if not (folder / dataset_folder).is_dir():
            pytest.skip(f"no {dataset_folder} in {folder}; set BRUNO_DATA_DIR")
        return folder

    return folder_with
