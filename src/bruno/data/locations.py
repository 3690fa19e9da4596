"""Where data lives on this machine."""

import os
from pathlib import Path

import platformdirs

from bruno.errors import MissingDataError
from bruno.paths import user_path


def data_directory(explicit: str | Path | None = None) -> Path:
    """Return the folder that holds the data sets.

    Args:
        explicit: A folder given by the user; otherwise the environment variable
            ``BRUNO_DATA_DIR`` decides, and without it the user's data folder of the platform.
    """
    chosen = explicit or os.environ.get("BRUNO_DATA_DIR")
    return user_path(chosen) if chosen else Path(platformdirs.user_data_dir("bruno"))


def cache_directory() -> Path:
    """Return the folder for decoded images: ``BRUNO_CACHE_DIR``, or the platform's cache folder."""
    chosen = os.environ.get("BRUNO_CACHE_DIR")
    return user_path(chosen) if chosen else Path(platformdirs.user_cache_dir("bruno"))


def missing_data(name: str, sought: Path) -> MissingDataError:
    """Return the error for a data set that can be downloaded but is not here.

    Args:
        name: The data set, as ``bruno download`` takes it.
        sought: The file or folder that was looked for.
    """
    folder = "fashion_mnist" if name == "fashion" else name
    return MissingDataError(
        f"{name}: {sought} not found. Run `bruno download {name}`, or set BRUNO_DATA_DIR "
        f"(or data_dir) to the folder that holds {folder}/"
    )
