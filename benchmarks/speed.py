"""Speed of flow, process and few-shot protocol on this machine, as one JSON object.

    python benchmarks/speed.py [--out docs/results/speed.json]

Nothing else should run meanwhile. Times are medians over repetitions; CPU seconds are those of the
whole process over all its threads.
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

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT, RealNVP
from bruno.data import LabelledImages
from bruno.evaluation import encode_rotations, few_shot_accuracy
from bruno.provenance import provenance
from bruno.seeding import generator_for

_IMAGE = (1, 28, 28)
_SETS, _SET_SIZE = 32, 20
_PROCESSES = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}


def seconds_of(work: Callable[[], Any], repetitions: int) -> dict[str, float]:
    """Return median wall-clock and CPU seconds of a piece of work, after one run to warm up."""
    work()
    wall, cpu = [], []
    for _ in range(repetitions):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}


def images(*shape: int) -> torch.Tensor:
    """Return random dequantised images."""
    return 256 * torch.rand(*shape, *_IMAGE, generator=generator_for(0))


def flow_speed(preset: str, batch: int) -> dict[str, float]:
    """Return CPU seconds per image, forward, and forward with backward."""
    flow = RealNVP(_IMAGE, preset=preset)
    x = images(batch)
    flow.initialise(x)

    def backward() -> None:
        z, log_det = flow(x)
        (0.5 * z.square().sum() - log_det.sum()).backward()

    with torch.no_grad():
        forward = seconds_of(lambda: flow(x), 5)
    both = seconds_of(backward, 5)
    return {
        "cpu_seconds_per_image_forward": forward["cpu"] / batch,
        "cpu_seconds_per_image_forward_and_backward": both["cpu"] / batch,
        "images_per_second_forward": batch / forward["wall"],
        "images_per_second_forward_and_backward": batch / both["wall"],
    }


def process_speed(process: str) -> dict[str, float]:
    """Return seconds of the process in a generative step of 32 sets of 20, forward and backward."""
    layer = _PROCESSES[process](784)
    z = torch.randn(_SETS, _SET_SIZE, 784, generator=generator_for(1)).requires_grad_()
    return seconds_of(lambda: layer.log_prob(z).sum().backward(), 20)


def streaming(dim: int, count: int = 20_000) -> float:
    """Return microseconds per element observed one by one."""
    elements = torch.randn(count, dim, generator=generator_for(2), dtype=torch.float64).unbind()

    def observe() -> None:
        evidence = Evidence.empty(dim)
        for element in elements:
            evidence = evidence.observe(element)

    return seconds_of(observe, 3)["wall"] / count * 1e6


def protocol(process: str) -> dict[str, float]:
    """Return seconds of the full Omniglot protocol (33,840 decisions) on images of its size."""
    model = Bruno(RealNVP(_IMAGE), _PROCESSES[process](784))
    model.flow.initialise(images(100))
    count = 423 * 20
    pictures = torch.randint(0, 256, (count, *_IMAGE), generator=generator_for(3))
    dataset = LabelledImages(
        images=pictures.to(torch.uint8),
        labels=torch.arange(count) // 20,
        class_names=tuple(map(str, range(423))),
        name="random",
        split="test",
    )
    start = time.perf_counter()
    encoded = encode_rotations(model, dataset, rotations=True)
    seconds = {"encoding": time.perf_counter() - start}
    for way, shot in ((20, 1), (20, 5)):
        start = time.perf_counter()
        few_shot_accuracy(model, dataset, way=way, shot=shot, rotations=True, encoded=encoded)
        seconds[f"{way}-way {shot}-shot"] = time.perf_counter() - start
    return seconds


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write the figures to")
    out: Path | None = parser.parse_args().out
    flow = {preset: flow_speed(preset, 64) for preset in ("paper", "compact", "dense")}
    process = {name: process_speed(name) for name in _PROCESSES}
    images_per_step = _SETS * _SET_SIZE
    figures = {
        **provenance(),
        "command": "python benchmarks/speed.py",
        "flow": flow,
        "process_seconds_in_a_step_of_32_sets_of_20": process,
        "process_share_of_that_step": {
            f"{preset}, {name}": process[name]["wall"]
            / (
                process[name]["wall"]
                + images_per_step / flow[preset]["images_per_second_forward_and_backward"]
            )
            for preset in ("paper", "compact")
            for name in _PROCESSES
        },
        "microseconds_per_observed_element": {dim: streaming(dim) for dim in (1, 784)},
        "few_shot_protocol_seconds": {name: protocol(name) for name in _PROCESSES},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
