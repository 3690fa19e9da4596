"""Figures that must not change, in golden.json: ``python -m tests.golden`` writes them again.

It needs the data sets in BRUNO_DATA_DIR. Whoever runs it says in the commit why figures changed.
"""

import json
from pathlib import Path

import torch

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT
from bruno.data import load_dataset
from bruno.evaluation import likelihood
from bruno.training.locate import locate_model

FILE = Path(__file__).with_name("golden.json")
SETS = {"set_size": 20, "sets": 20, "seed": 1}


def grid(*shape):
    """Numbers between -1 and 1 that depend on no generator."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64).square()).view(shape)


def process_figures():
    """Densities of processes with known parameters, in nats."""
    z, query = 2 * grid(7, 3), grid(2, 3)
    parameters = {"variance": torch.tensor([1.0, 2.0, 0.5]), "covariance": 0.3, "loc": 0.25}
    figures = {}
    for name, process in (
        ("gaussian", ExchangeableGaussian.from_parameters(**parameters)),
        ("student_t", ExchangeableStudentT.from_parameters(**parameters, df=5.0)),
    ):
        evidence = Evidence.of(z)
        figures[name] = {
            "log_prob": process.log_prob(z).tolist(),
            "predictive_log_prob": process.predictive_log_prob(z).tolist(),
            "predictive mean": process.predictive(evidence).mean.tolist(),
            "predictive variance": process.predictive(evidence).variance.tolist(),
            "log_prob_given": process.log_prob_given(query, Evidence.stack([evidence])).tolist(),
        }
    return figures


@torch.no_grad()
def model_figures(name):
    """Joint log-densities of two sets of made-up elements under a shipped model, in nats."""
    model = Bruno.from_pretrained(name).double()
    x = 128 + 127.9 * grid(2, 5, *model.event_shape)
    context = grid(2, 5, model.flow.context_dim) if model.flow.context_dim else None
    return model.log_prob(x, context).tolist()


def likelihood_figures(name, **data):
    """Likelihood of real test images under a shipped model, in nats per image."""
    dataset = load_dataset(locate_model(None, name).data_config(data), "test")
    return likelihood(Bruno.from_pretrained(name), dataset, **SETS).nll.mean


def main():
    names = Bruno.pretrained()
    figures = {
        "processes": process_figures(),
        "models": {name: model_figures(name) for name in names},
        "likelihood": {name: likelihood_figures(name) for name in names},
    }
    FILE.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
