"""Files of data sets at their original homes, with checksums."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file at its original home.

    Attributes:
        url: Where it is.
        path: Where it belongs, relative to the data folder.
        checksum: ``"md5:..."`` or ``"sha256:..."`` of its content. MD5 where that is what its
            publishers state.
    """

    url: str
    path: str
    checksum: str


_OMNIGLOT_HOME = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_VINYALS = (
    "https://raw.githubusercontent.com/jakesnell/prototypical-networks/master/"
    "data/omniglot/splits/vinyals/"
)
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"


def _files(home: str, folder: str, checksums: dict[str, str]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(home + name, f"{folder}/{name}", checksum)
        for name, checksum in checksums.items()
    )


OMNIGLOT_FILES = (
    *_files(
        _OMNIGLOT_HOME,
        "omniglot",
        {
            "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
            "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
        },
    ),
    *_files(
        _VINYALS,
        "omniglot/vinyals",
        {
            "train.txt": "sha256:984522c194c30fb678ce53304a160a42faf5403ad4f9a67010f32dd3a35738e0",
            "val.txt": "sha256:11f99e54faee3e26f53d3231c1cceac5bf7b8730e9be31cb6dab256551dc0c1a",
            "trainval.txt": "sha256:"
            "5276ae50c755596d0bff7f2284e85625695549a85ee6e36b6491ad1e5d1cc26a",
            "test.txt": "sha256:845264cc5c156180828ccf17915668b17ee21424d0170df6e7d81676aa5d1204",
        },
    ),
)
MNIST_FILES = _files(
    _MNIST,
    "mnist",
    {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)
FASHION_FILES = _files(
    _FASHION,
    "fashion_mnist",
    {
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
)
