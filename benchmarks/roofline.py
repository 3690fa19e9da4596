"""How much of the machine's arithmetic every flow reaches; writes docs/speed.md.

    python benchmarks/roofline.py

In the same run, in turn and several times, on one thread: a matrix product and a 3x3 convolution of
64 channels at 14x14 (forward and backward); a training step of every flow that ships (its negative
log-likelihood, forward and backward); its `encode`, the convolutions and matrix products that
`encode` contains, alone, and its inverse. Times are CPU seconds of the process, so that other
programs on the machine count little; figures are medians over rounds. Operations are counted by
torch's FlopCounterMode.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bruno import Bruno
from bruno.data import DataConfig, dequantise, load_dataset
from bruno.provenance import provenance
from bruno.seeding import generator_for

_ROOT = Path(__file__).parents[1]
_aten = torch.ops.aten
_PRODUCTS = {_aten.convolution.default, _aten.mm.default, _aten.addmm.default, _aten.bmm.default}
_KINDS = {
    "convolutions and matrix products": {
        *("convolution", "_convolution", "mkldnn_convolution", "mm", "addmm", "bmm", "linear"),
    },
    "activations": {"elu", "gelu", "tanh", "leaky_relu", "_softmax", "native_layer_norm"},
    "copies": {"copy_", "clone", "contiguous", "cat", "to", "_to_copy", "pixel_unshuffle"},
}


class _Products(TorchDispatchMode):
    """Keeps the convolutions and matrix products that run meanwhile, with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        """Run them again."""
        for function, arguments in self.calls:
            function(*arguments)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def operations(work: Callable[[], Any]) -> int:
    """Return the floating-point operations of a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def shares(work: Callable[[], Any]) -> dict[str, float]:
    """Return the shares of kinds of operations in the time of a piece of work."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    seconds = dict.fromkeys([*_KINDS, "everything else"], 0.0)
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in _KINDS.items() if name in names), "everything else")
        seconds[kind] += event.self_cpu_time_total
    return {kind: value / sum(seconds.values()) for kind, value in seconds.items()}


def references() -> dict[str, Callable[[], Any]]:
    """Return what the machine can do: a matrix product and a convolution, with gradients."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    layer = torch.nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(64, 64, 14, 14).to(memory_format=torch.channels_last).requires_grad_()
    return {"matrix product": lambda: a @ b, "convolution": lambda: layer(x).sum().backward()}


def flow_work(name: str, images: int) -> dict[str, Callable[[], Any]]:
    """Return what is measured of a model that comes with the package."""
    model = Bruno.from_pretrained(name)
    characters = load_dataset(DataConfig(name="glyphs"), "train").images[:images]
    border = (model.event_shape[-1] - characters.shape[-1]) // 2
    x = dequantise(torch.nn.functional.pad(characters, (border,) * 4), generator_for(0))
    angle = torch.linspace(0, 6, images)
    context = torch.stack([angle.sin(), angle.cos()], 1) if model.flow.context_dim else None

    def step() -> None:
        z, log_det = model.flow(x, context)
        (0.5 * z.square().sum() - log_det.sum()).backward()

    products = _Products()
    with torch.no_grad():
        z = model.flow(x, context)[0]
        with products:
            model.flow(x, context)
    without_gradients = torch.no_grad()
    return {
        "step": step,
        "encode": without_gradients(lambda: model.flow(x, context)),
        "bare layers": without_gradients(products.replay),
        "inverse": without_gradients(lambda: model.flow.inverse(z, context)),
    }


def measure(names: list[str], images: int, rounds: int) -> dict[str, Any]:
    """Return rates of the machine and of every model."""
    work = {("machine", key): one for key, one in references().items()}
    for name in names:
        work |= {(name, key): one for key, one in flow_work(name, images).items()}
    counted = {key: operations(one) for key, one in work.items() if key[1] != "bare layers"}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, one in work.items():
            seconds[key].append(cpu_seconds(one))
    median = {key: statistics.median(values) for key, values in seconds.items()}
    rate = {key: counted[key] / median[key] / 1e9 for key in counted}
    convolution = rate["machine", "convolution"]
    return {
        "machine": {key: round(rate["machine", key], 1) for key in references()},
        "flows": {
            name: {
                "step_gflops": round(rate[name, "step"], 1),
                "share_of_convolution": round(rate[name, "step"] / convolution, 3),
                "encode_over_bare_layers": round(
                    median[name, "encode"] / median[name, "bare layers"], 2
                ),
                "inverse_over_encode": round(median[name, "inverse"] / median[name, "encode"], 2),
                "encode_cpu_ms_per_image": round(1000 * median[name, "encode"] / images, 3),
                "inverse_cpu_ms_per_image": round(1000 * median[name, "inverse"] / images, 3),
                "shares_of_encode": {
                    kind: round(share, 3) for kind, share in shares(work[name, "encode"]).items()
                },
            }
            for name in names
        },
    }


def page(figures: dict[str, Any]) -> str:
    """Return the page of the documentation."""
    rows = "\n".join(
        f"| `{name}` | {row['step_gflops']:.1f} | {row['share_of_convolution']:.0%} | "
        f"{row['encode_over_bare_layers']:.2f} | {row['inverse_over_encode']:.2f} | "
        f"{row['encode_cpu_ms_per_image']:.2f} | {row['inverse_cpu_ms_per_image']:.2f} |"
        for name, row in figures["flows"].items()
    )
    kinds = [*_KINDS, "everything else"]
    parts = "\n".join(
        f"| `{name}` | "
        + " | ".join(f"{row['shares_of_encode'][kind]:.0%}" for kind in kinds)
        + " |"
        for name, row in figures["flows"].items()
    )
    machine = figures["machine"]
    return f"""# Speed against the machine

Made by `{figures["command"]}` on {figures["date"]} ({figures["where"]}, torch {figures["torch"]}, \
one thread, medians of {figures["rounds"]} rounds of CPU seconds, batches of {figures["images"]} \
images; other programs ran meanwhile).

In the same run a matrix product of 1024 x 1024 reached {machine["matrix product"]:.1f} GFLOP/s, \
and a 3x3 convolution of 64 channels at 14x14, forward and backward, \
{machine["convolution"]:.1f} GFLOP/s.

| model | training step, GFLOP/s | of the convolution's rate | encode / its layers alone \
| inverse / encode | encode, CPU ms per image | inverse, CPU ms per image |
|---|---|---|---|---|---|---|
{rows}

"Its layers alone" are the convolutions and matrix products that `encode` contains, run one after \
the other on the same tensors; everything above 1 is what else a flow does. `omniglot`, \
`mnist` and `turntable` draw pixels one diagonal of blocks after the other, so their inverse takes \
longer than `encode`.

Where the time of `encode` goes, by torch's profiler:

| model | {" | ".join(kinds)} |
|---|{"---|" * len(kinds)}
{parts}
"""


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(Bruno.pretrained()))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=_ROOT / "docs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where = provenance()
    figures = {
        "command": f"python benchmarks/roofline.py --images {arguments.images} "
        f"--rounds {arguments.rounds}",
        "date": where["date"],
        "where": where["machine"],
        "torch": where["torch"],
        "rounds": arguments.rounds,
        "images": arguments.images,
        **measure(arguments.models, arguments.images, arguments.rounds),
    }
    text = json.dumps(figures, indent=2) + "\n"
    (arguments.out / "results" / "roofline.json").write_text(text, encoding="utf-8")
    (arguments.out / "speed.md").write_text(page(figures), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
