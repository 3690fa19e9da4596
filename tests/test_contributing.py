"""The pages on how to add things: their code runs, and what it adds keeps the laws."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.baselines.interface import flatten_episode
from bruno.baselines.meta_training import MetaTrainingConfig, build_system, meta_train
from bruno.baselines.registry import SYSTEMS
from bruno.data import load_dataset
from bruno.data.registry import SOURCES
from bruno.data.sets import sample_episode
from bruno.flows.architectures import ARCHITECTURES
from bruno.processes import PROCESSES, ExchangeableProcess
from bruno.seeding import generator_for
from tests.baselines.squares import squares

PAGES = Path(__file__).parents[1] / "docs" / "contributing"


@pytest.fixture
def page(monkeypatch):
    """Run the Python of a page, as a module of a name; registries are restored afterwards."""
    registries = [ARCHITECTURES, PROCESSES, SOURCES, SYSTEMS]
    kept = [dict(registry) for registry in registries]

    def run(name, module="page"):
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^( *)```python\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
        assert blocks
        made = types.ModuleType(module)
        monkeypatch.setitem(sys.modules, module, made)
        for indent, code in blocks:
            plain = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
            exec(compile(plain, name, "exec"), made.__dict__)  # noqa: S102
        return made

    yield run
    for registry, entries in zip(registries, kept, strict=True):
        registry.clear()
        registry.update(entries)


def test_a_flow_is_found_by_its_name_and_keeps_the_laws(page):
    ARCHITECTURES["reflected"] = page("add-a-flow").REFLECTED
    flow = RealNVP((5,), preset="reflected", reflections=2).double()
    flow.initialise(torch.randn(50, 5, generator=generator_for(1), dtype=torch.float64))
    x = torch.randn(3, 5, generator=generator_for(0), dtype=torch.float64)
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z)[0], x)
    jacobian = torch.autograd.functional.jacobian(lambda one: flow(one)[0], x[0])
    torch.testing.assert_close(jacobian.det().abs().log(), log_det[0])
    assert flow.is_affine
    assert RealNVP(**flow.config).config == flow.config
    with pytest.raises(UserError, match="reflections: expected a whole number"):
        RealNVP((5,), preset="reflected", reflections=0)


def test_a_process_is_saved_by_its_name_and_has_the_densities_of_its_parameters(page, tmp_path):
    kind = page("add-a-process").SharedCorrelationGaussian
    variance = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    process = kind.from_parameters(variance, 0.6 * variance)
    z = torch.randn(2, 4, 3, generator=generator_for(0))
    separate = ExchangeableGaussian.from_parameters(variance, 0.6 * variance)
    torch.testing.assert_close(process.log_prob(z), separate.log_prob(z))
    process.log_prob(z).sum().backward()
    assert process.raw_correlation.grad.shape == (1,)
    with pytest.raises(UserError, match="covariance: expected one correlation"):
        kind.from_parameters(variance, 0.1)
    PROCESSES["shared_gaussian"] = kind
    Bruno(RealNVP((3,)), process).save_pretrained(tmp_path / "model")
    loaded = Bruno.from_pretrained(tmp_path / "model").process
    assert type(loaded) is kind
    torch.testing.assert_close(loaded.correlation, process.correlation)


def test_the_page_on_processes_lists_what_a_family_implements():
    table = (PAGES / "add-a-process.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)\(", table, re.MULTILINE))
    assert listed == ExchangeableProcess.__abstractmethods__


def test_a_data_set_is_loaded_by_its_name(page):
    page("add-a-data-set")
    splits = {split: load_dataset("stripes", split) for split in ("train", "val", "test")}
    assert {name: data.num_classes for name, data in splits.items()} == {
        "train": 36,
        "val": 12,
        "test": 12,
    }
    names = [name for data in splits.values() for name in data.class_names]
    assert len(set(names)) == len(names)
    again = load_dataset("stripes", "test")
    assert torch.equal(again.images, splits["test"].images)
    with pytest.raises(UserError, match="split: stripes has"):
        load_dataset("stripes", "all")


def test_a_baseline_is_trained_by_its_name_and_learns(page):
    page("add-a-baseline", "bruno.baselines.pixel_means")
    train = squares("train")
    config = MetaTrainingConfig(cpu_minutes=None, steps=10, validations=1, validation_episodes=1)
    built = build_system(SYSTEMS["pixel-means"].load(), train, 0)
    system = meta_train(built, train, squares("val"), config)
    assert system.log_factor.item() != 0
    episode = sample_episode(squares("test"), 4, 3, 4, generator_for(3))
    support, labels, query, truth = flatten_episode(episode)
    log_prob = system.adapt(support, labels).predict_log_prob(query)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(len(query)))
    assert (log_prob.argmax(-1) == truth).float().mean() > 0.9
