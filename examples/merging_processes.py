"""Evidence of several processes, merged: each sees its own part of a set, and sends 2 D numbers.

python examples/merging_processes.py
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from sklearn.datasets import load_digits

from bruno import Evidence, ExchangeableGaussian


def count_mean_scatter(part: np.ndarray) -> tuple[int, list[float], list[float]]:
    """Return the evidence of a part as plain numbers, which any transport can carry."""
    torch.set_num_threads(1)
    evidence = Evidence.of(torch.tensor(part))
    return int(evidence.count), evidence.mean.tolist(), evidence.scatter.tolist()


def main() -> None:
    """Merge the evidence of three parts, and compare it with that of the whole."""
    x, y = load_digits(return_X_y=True)
    threes = x[y == 3]
    parts = np.array_split(threes, 3)
    with ProcessPoolExecutor(2, get_context("spawn")) as workers:
        sent = list(workers.map(count_mean_scatter, parts))
    merged = Evidence.empty(x.shape[1])
    for count, mean, scatter in sent:
        merged = merged + Evidence(
            torch.tensor(count),
            torch.tensor(mean, dtype=torch.float64),
            torch.tensor(scatter, dtype=torch.float64),
        )
    whole = Evidence.of(torch.tensor(threes))
    print(f"elements: {' + '.join(str(count) for count, *_ in sent)} = {int(merged.count)}")
    print(f"largest difference of the means: {float((merged.mean - whole.mean).abs().max()):.0e}")

    process = ExchangeableGaussian.from_parameters(torch.full((64,), 30.0), covariance=20.0)
    new = torch.tensor(x[y == 3][0])
    with torch.no_grad():
        scores = [float(process.predictive(e).log_prob(new)) for e in (merged, whole)]
    print(f"log p(x | set), nats: merged {scores[0]:.9f}, whole {scores[1]:.9f}")


if __name__ == "__main__":
    main()
