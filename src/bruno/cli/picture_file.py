"""The picture that a command writes: checked before any work, written whole at the end."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bruno.errors import UserError
from bruno.paths import check_new_file, user_path
from bruno.serialization import write_atomically


@dataclass(frozen=True)
class PictureFile:
    """A file to write a picture to.

    Attributes:
        path: Where it is.
        format: Name of its format, as Pillow calls it.
    """

    path: Path
    format: str

    def write(self, picture: Image.Image) -> None:
        """Write a picture, with the folders above it, or leave what is there as it was."""
        buffer = io.BytesIO()
        picture.save(buffer, format=self.format)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, buffer.getvalue())


def picture_file(out: str, example: str, *, overwrite: bool) -> PictureFile:
    """Return the file that ``--out`` names, after checking that a picture can be written there.

    Args:
        out: Value of ``--out``; its ending names the format.
        example: A name to show in errors, such as ``samples.png``.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        UserError: If the ending is not that of a format Pillow writes, or the file exists.
    """
    path = user_path(out, "out")
    picture_format = Image.registered_extensions().get(path.suffix.lower(), "")
    if picture_format not in Image.SAVE:
        raise UserError(f"out: expected a picture such as {example}, got {out!r}")
    check_new_file(path, "out", overwrite=overwrite)
    return PictureFile(path, picture_format)
