"""Images: data sets, and sets and episodes drawn from them."""

from typing import TYPE_CHECKING

from bruno.lazy import lazy_exports

if TYPE_CHECKING:
    from bruno.data.augmentation import Augmentation as Augmentation
    from bruno.data.augmentation import augment as augment
    from bruno.data.context import ContextFeature as ContextFeature
    from bruno.data.context import encode_context as encode_context
    from bruno.data.dataset import LabelledImages as LabelledImages
    from bruno.data.downloads import download as download
    from bruno.data.downloads import downloadable_names as downloadable_names
    from bruno.data.folder import load_folder as load_folder
    from bruno.data.image_file import load_image as load_image
    from bruno.data.registry import DataConfig as DataConfig
    from bruno.data.registry import dataset_names as dataset_names
    from bruno.data.registry import load_dataset as load_dataset
    from bruno.data.sets import Episode as Episode
    from bruno.data.sets import Sets as Sets
    from bruno.data.sets import dequantise as dequantise
    from bruno.data.sets import quantise as quantise
    from bruno.data.sets import rotate as rotate
    from bruno.data.sets import sample_episode as sample_episode
    from bruno.data.sets import sample_sets as sample_sets
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Augmentation": "bruno.data.augmentation",
            "DataConfig": "bruno.data.registry",
            "Episode": "bruno.data.sets",
            "ContextFeature": "bruno.data.context",
            "LabelledImages": "bruno.data.dataset",
            "Sets": "bruno.data.sets",
            "augment": "bruno.data.augmentation",
            "dataset_names": "bruno.data.registry",
            "dequantise": "bruno.data.sets",
            "download": "bruno.data.downloads",
            "downloadable_names": "bruno.data.downloads",
            "encode_context": "bruno.data.context",
            "load_dataset": "bruno.data.registry",
            "load_folder": "bruno.data.folder",
            "load_image": "bruno.data.image_file",
            "quantise": "bruno.data.sets",
            "rotate": "bruno.data.sets",
            "sample_episode": "bruno.data.sets",
            "sample_sets": "bruno.data.sets",
        },
    )

__all__ = [
    "Augmentation",
    "ContextFeature",
    "DataConfig",
    "Episode",
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
