"""``bruno download``: fetch a data set from its home."""

from __future__ import annotations

from bruno import data
from bruno.cli.console import output_console, print_json
from bruno.data.locations import data_directory


def download(name: str, data_dir: str | None = None, as_json: bool = False) -> None:
    """Download a data set, check it, and print its place.

    Args:
        name: One of omniglot, mnist, fashion.
        data_dir: Folder for data sets; by default that of the environment variable
            BRUNO_DATA_DIR, or the user's data folder.
        as_json: Print the files as JSON on standard output.
    """
    paths = [str(path) for path in data.download(name, data_directory(data_dir))]
    if as_json:
        print_json({"files": paths})
    else:
        output_console().print("\n".join(paths))
