"""Images: data sets, and sets and episodes drawn from them."""

from bruno.data.augment import Augmentation, augment
from bruno.data.context import Label, encode_context
from bruno.data.dataset import LabelledImages
from bruno.data.download import download, downloadable_names
from bruno.data.folder import load_folder
from bruno.data.image_file import load_image
from bruno.data.registry import DataConfig, dataset_names, load_dataset
from bruno.data.sets import (
    Episode,
    Sets,
    dequantise,
    quantise,
    rotate,
    sample_episode,
    sample_sets,
)

__all__ = [
    "Augmentation",
    "DataConfig",
    "Episode",
    "Label",
    "LabelledImages",
    "Sets",
    "augment",
    "dataset_names",
    "dequantise",
    "download",
    "downloadable_names",
    "encode_context",
    "load_dataset",
    "load_folder",
    "load_image",
    "quantise",
    "rotate",
    "sample_episode",
    "sample_sets",
]
