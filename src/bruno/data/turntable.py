"""Turntable: objects seen from all around, from an archive of views."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bruno.data.context import ContextFeature, encode_context
from bruno.data.dataset import SPLITS, LabelledImages, check_split
from bruno.errors import MissingDataError, UserError
from bruno.pixels import check_levels

FOLDER = "turntable"
DEFAULT_FILE = "models.npz"
AZIMUTH = ContextFeature("azimuth", is_angle=True)

# A single array in the place of an archive is a TypeError or an AttributeError.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    AttributeError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)
# Of ten objects of a kind that follow each other in a random order.
_OF_TEN = ("train",) * 7 + ("val",) + ("test",) * 2
_SPLIT_SEED = 42


def load_turntable(file: Path, split: str) -> LabelledImages:
    """Load one split of a turntable archive: a class an object, an image a view of it.

    70 % of the objects are for training, 10 % for validation and 20 % for testing, each category
    as nearly in these shares as whole objects allow.

    Args:
        file: A NumPy archive of ``views``, uint8 ``(objects, V, H, W)``; optionally ``azimuth``,
            the ``V`` angles in degrees (by default evenly spaced from 0), ``object``, the name of
            each, and ``category``, its kind.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Images uint8 ``(N, 1, H, W)``; the context is the sine and cosine of the azimuth.

    Raises:
        MissingDataError: If the file is not there.
        UserError: If the split is unknown or the file is not as above.
    """
    check_split("turntable", split, SPLITS)
    arrays = _read(file)
    views = arrays["views"]
    count, number = views.shape[:2]
    kinds = arrays.get("category", np.zeros(count, dtype=np.int64))
    names = arrays.get("object", np.arange(count)).astype(str)
    if "category" in arrays:
        names = np.array([f"{kind}/{name}" for kind, name in zip(kinds, names, strict=True)])
    chosen = np.flatnonzero(_splits(kinds) == split)
    if chosen.size == 0:
        raise UserError(f"split: {file} has {count} objects, too few for train, val and test")
    azimuths = arrays.get("azimuth", np.arange(number) * (360 / number)).astype(np.float64)
    context = encode_context([AZIMUTH], {"azimuth": torch.from_numpy(azimuths)})
    return LabelledImages(
        images=torch.from_numpy(views[chosen]).flatten(0, 1).unsqueeze(1),
        labels=torch.arange(len(chosen), device="cpu").repeat_interleave(number),
        class_names=tuple(names[chosen].tolist()),
        name="turntable",
        split=split,
        context=context.repeat(len(chosen), 1),
        context_features=(AZIMUTH,),
    )


def _read(file: Path) -> dict[str, NDArray[np.generic]]:
    if not file.is_file():
        raise MissingDataError(
            f"turntable: {file} not found. Name a NumPy archive of views with --data.root, or set "
            f"BRUNO_DATA_DIR (or data_dir) to the folder that holds {FOLDER}/{DEFAULT_FILE}"
        )
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise UserError(f"turntable: {file} is not a readable NumPy archive ({error})") from error
    views = arrays.get("views")
    if views is None or views.dtype != np.uint8 or views.ndim != 4 or not views.size:
        got = "none" if views is None else f"{views.dtype} {views.shape}"
        raise UserError(f"views: expected uint8 (objects, V, H, W) in {file}, got {got}")
    check_levels("views", torch.from_numpy(views))
    lengths = {"category": views.shape[0], "object": views.shape[0], "azimuth": views.shape[1]}
    for name, length in lengths.items():
        if name in arrays and arrays[name].shape != (length,):
            raise UserError(
                f"{name}: expected shape ({length},) in {file}, got {arrays[name].shape}"
            )
    azimuth = arrays.get("azimuth", np.zeros(0))
    if azimuth.dtype.kind not in "iuf":
        raise UserError(f"azimuth: expected degrees in {file}, got {azimuth.dtype}")
    if not np.isfinite(azimuth).all():
        raise UserError(f"azimuth: expected finite degrees in {file}, got NaN or infinity")
    return arrays


def _splits(kinds: NDArray[np.generic]) -> NDArray[np.str_]:
    """Return the split of every object."""
    generator = np.random.default_rng(_SPLIT_SEED)
    order = generator.permutation(len(kinds))
    order = order[np.argsort(kinds[order], kind="stable")]
    tens = -(-len(kinds) // len(_OF_TEN))
    dealt = np.concatenate([generator.permutation(_OF_TEN) for _ in range(tens)])
    splits = np.empty(len(kinds), dtype=dealt.dtype)
    splits[order] = dealt[: len(kinds)]
    return splits
