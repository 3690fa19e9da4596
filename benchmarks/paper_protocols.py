"""Detection of planted elements in streams, for the models and data of the documentation.

    BRUNO_DATA_DIR=... python benchmarks/paper_protocols.py [--only NAME]

Writes ``docs/results/anomalies-NAME.json``, and of one of them the picture of the documentation;
files that are there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bruno import Bruno
from bruno.cli.console import StageDisplay
from bruno.data import load_dataset
from bruno.evaluation.anomaly_streams import anomaly_streams
from bruno.provenance import provenance
from bruno.reporting.figures import to_png
from bruno.reporting.protocol_pictures import plot_anomalies
from bruno.training.locate import locate_model

DOCS = Path(__file__).parents[1] / "docs"
SUBJECTS = {
    "omniglot": ("omniglot", "omniglot", 100),
    "omniglot-on-mnist": ("omniglot", "mnist", 20),
    "omniglot-classify": ("omniglot-classify", "omniglot-classify", 100),
    "omniglot-classify-on-mnist": ("omniglot-classify", "mnist", 20),
    "mnist": ("mnist", "mnist", 20),
}
"""Model, the model whose test data are taken, and the number of streams, by name."""
PICTURED = "omniglot"


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=SUBJECTS, help="measure one of them")
    only = parser.parse_args().only
    for name, (model, source, streams) in SUBJECTS.items():
        file = DOCS / "results" / f"anomalies-{name}.json"
        if file.exists() or only not in (None, name):
            continue
        data = load_dataset(locate_model(None, source).data_config({}), "test")
        with StageDisplay() as display:
            result = anomaly_streams(
                Bruno.from_pretrained(model), data, streams=streams, progress=display
            )
        figures = {"model": model, **provenance(), "anomalies": result.to_dict()}
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        if name == PICTURED:
            picture = DOCS / "images" / f"anomalies-{name}.png"
            picture.write_bytes(to_png(plot_anomalies([result])))


if __name__ == "__main__":
    main()
