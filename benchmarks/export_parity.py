"""How exactly exported graphs give what the model gives, for the models that come with the package.

    python benchmarks/export_parity.py --models glyphs mnist --out docs/results/export.jsonl

Every graph runs under onnxruntime, or as a program of ``torch.export``, on images of built-in
characters (enlarged by a border where the model's are larger), in single and in double precision,
for several sizes of the batch. Differences are relative to the largest value. ``rounding`` is what
single precision itself does to the model in torch: the difference of its results from those of its
own in double precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from bruno import Bruno, Evidence
from bruno.data import DataConfig, dequantise, load_dataset
from bruno.export import export_model
from bruno.export.frozen import frozen
from bruno.export.writer import FORMATS
from bruno.provenance import provenance
from bruno.seeding import generator_for

_BATCHES = (1, 7)
Graph = Callable[[dict[str, Tensor]], Tensor]
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def inputs_of(model: Bruno, count: int) -> tuple[Tensor, Tensor | None]:
    """Return images of test characters and a context, in double precision."""
    characters = load_dataset(DataConfig(name="glyphs"), "test").images[:: 2000 // count][:count]
    border = (model.event_shape[-1] - characters.shape[-1]) // 2
    images = torch.nn.functional.pad(characters, (border,) * 4)
    x = dequantise(images, generator_for(0)).double()
    angle = 2 * torch.pi * torch.rand(count, generator=generator_for(1), dtype=torch.float64)
    context = torch.stack([angle.sin(), angle.cos()], 1) if model.flow.context_dim else None
    return x, context


@torch.no_grad()
def results_of(
    model: Bruno, x: Tensor, context: Tensor | None, *, with_samples: bool
) -> Iterator[tuple[str, dict[str, Tensor | None], Tensor]]:
    """Yield graph, inputs and result of every graph of a frozen model, from torch."""
    dtype = model.flow.dtype
    x, context = x.to(dtype), None if context is None else context.to(dtype)
    z, log_det = model.flow(x, context)
    yield "encode", {"x": x, "context": context}, z
    seen = Evidence.stack([Evidence.empty(model.process.dim), Evidence.of(z)])
    statistics_of = {name: getattr(seen, name) for name in ("count", "mean", "scatter")}
    log_prob = model.process.log_prob_given(z, seen) + log_det.double().unsqueeze(1)
    yield "log_prob", {"z": z, "log_det": log_det, **statistics_of}, log_prob
    if with_samples:
        generator = generator_for(2)
        noise = torch.randn(len(x), model.process.dim, generator=generator, dtype=torch.float64)
        predictive: Any = model.process.predictive(seen[1]).base_dist
        drawn = model.flow.inverse(predictive.loc + predictive.scale * noise, context)[0]
        of_one = {name: values[1] for name, values in statistics_of.items()}
        yield "sample", {"noise": noise, **of_one, "context": context}, drawn


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def milliseconds(work: Callable[[], Any]) -> float:
    """Return the median CPU time of a piece of work."""
    work()
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def graph_of(file: Path) -> Graph:
    """Return a graph as a function of tensors by name."""
    if file.suffix == ".pt2":
        module = torch.export.load(file).module()

        def with_torch(given: dict[str, Tensor]) -> Tensor:
            with torch.no_grad():
                found = module(*given.values())
            return found[0] if isinstance(found, tuple) else found

        return with_torch
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options)
    return lambda given: torch.from_numpy(
        session.run(None, {key: value.numpy() for key, value in given.items()})[0]
    )


def parity(name: str, dtype: str, form: str) -> Iterator[dict[str, Any]]:
    """Export a model and yield a row of figures for every graph."""
    model = Bruno.from_pretrained(name)
    with tempfile.TemporaryDirectory() as directory:
        start = time.process_time()
        exported = export_model(model, directory, dtype=dtype, format=form)
        seconds = time.process_time() - start
        own, exact = (frozen(model, _DTYPES[kind]) for kind in (dtype, "float64"))
        graphs = {part: graph_of(exported.path / file) for part, file in exported.files.items()}
        rows: dict[str, dict[str, Any]] = {}
        for count in _BATCHES:
            images, context = inputs_of(model, count)
            drawn = "sample" in exported.files
            pairs = zip(
                results_of(own, images, context, with_samples=drawn),
                results_of(exact, images, context, with_samples=drawn),
                strict=True,
            )
            for (part, given, expected), (_, _, precise) in pairs:
                feed = {key: value for key, value in given.items() if value is not None}
                found = graphs[part](feed)
                row = rows.setdefault(part, {"difference": 0.0, "rounding": 0.0})
                row["difference"] = max(row["difference"], difference(found, expected))
                row["rounding"] = max(row["rounding"], difference(expected, precise))
                row["cpu_ms"] = round(milliseconds(lambda f=feed, p=part: graphs[p](f)), 2)
        for part, row in rows.items():
            size = (exported.path / exported.files[part]).stat().st_size
            yield {
                "model": name,
                "format": form,
                "dtype": dtype,
                "graph": part,
                **row,
                "images": _BATCHES[-1],
                "megabytes": round(size / 1e6, 2),
                "export_cpu_seconds": round(seconds, 1),
                "left_out": sorted(exported.left_out),
            }


def main() -> None:
    """Measure, print, and append to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(Bruno.pretrained()))
    parser.add_argument("--dtypes", nargs="+", default=list(_DTYPES), choices=list(_DTYPES))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--out", type=Path, help="file to append the figures to, a row a graph")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.models:
        for dtype in arguments.dtypes:
            for form in arguments.formats:
                for row in parity(name, dtype, form):
                    version = {"onnxruntime": onnxruntime.__version__}
                    line = json.dumps({**provenance(), **version, **row})
                    print(line, flush=True)
                    if arguments.out:
                        with arguments.out.open("a", encoding="utf-8") as file:
                            file.write(line + "\n")


if __name__ == "__main__":
    main()
