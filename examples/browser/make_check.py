"""Write what check.mjs learns and classifies, and the answers of the model in Python.

bruno export --pretrained glyphs --out exported --parts encode log_prob
python examples/browser/make_check.py exported glyphs
node examples/browser/check.mjs exported
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from bruno import Bruno
from bruno.data import DataConfig, load_dataset

_CLASSES, _SHOTS, _QUERIES = 5, 3, 2


def main(directory: Path, name: str) -> None:
    """Write ``check.json`` beside an exported model.

    Args:
        directory: Where the model is exported.
        name: The pretrained model.
    """
    model = Bruno.from_pretrained(name)
    characters = load_dataset(DataConfig(name="glyphs"), "test")
    support, query = {}, []
    for label in range(_CLASSES):
        images = characters.images[characters.labels == label]
        support[characters.class_names[label]] = images[:_SHOTS]
        query.append(images[_SHOTS : _SHOTS + _QUERIES])
    queries = torch.cat(query)
    with torch.no_grad():
        sets = model.condition(torch.stack(list(support.values())))
        log_prob = sets.log_prob(queries.unsqueeze(1))
    content = {
        "support": {key: images.flatten(1).tolist() for key, images in support.items()},
        "query": queries.flatten(1).tolist(),
        "log_prob": log_prob.tolist(),
        "relative": 1e-5,
    }
    (directory / "check.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
