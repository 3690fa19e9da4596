"""Exported graphs give what the model gives, for every number of elements, sets and draws."""

import copy
import hashlib
import json

import numpy as np
import onnxruntime
import pytest
import torch

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT, UserError
from bruno.cli import main
from bruno.data import dequantise
from bruno.data.glyphs import load_glyphs
from bruno.export import export_model
from bruno.export.frozen import frozen
from bruno.flows.affine import ActivationNorm, InvertibleConv1x1
from bruno.flows.conditioners import ResidualConditioner
from bruno.flows.coupling import SplitCoupling
from bruno.flows.flow import Flow
from bruno.flows.preprocessing import PixelGaussianisation
from bruno.flows.reshape import Flatten, Squeeze
from bruno.seeding import generator_for
from tests.flows.architectures import CASES, batch, make_context, make_flow


def small_model(case, process=ExchangeableGaussian, dtype=torch.float32):
    flow = make_flow(case, dtype)
    model = Bruno(flow, process(flow.dim))
    model.process.set_correlation(torch.linspace(0.2, 0.8, flow.dim))
    return model


def chain_of(layers, dtype):
    """Return a model of 4 x 4 pixels of a few layers: exporting takes a time for every layer."""
    flow = Flow(layers, (1, 4, 4)).to(dtype)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        flow.initialise(batch(flow.event_shape, 16, dtype=dtype))
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    model = Bruno(flow, ExchangeableGaussian(16))
    model.process.set_correlation(torch.linspace(0.2, 0.8, 16))
    return model


def convolutional_model(dtype):
    coupling = SplitCoupling(slice(None, 2), slice(2, None), ResidualConditioner(2, 4, 4, 1))
    glow = [Squeeze(), ActivationNorm(4), InvertibleConv1x1(4), coupling, Flatten(4, 2, 2)]
    return chain_of([PixelGaussianisation(), *glow], dtype)


def vector_model(dtype):
    return small_model("affine, 5", ExchangeableStudentT, dtype)


class OnnxGraph:
    """A graph of an exported model, called with tensors by name."""

    def __init__(self, directory, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(directory / f"{name}.onnx", options)

    def __call__(self, **tensors):
        feed = {key: x.numpy() for key, x in tensors.items() if x is not None}
        return [torch.from_numpy(np.asarray(x)) for x in self.session.run(None, feed)]


class TorchGraph:
    def __init__(self, directory, name):
        self.module = torch.export.load(directory / f"{name}.pt2").module()

    def __call__(self, **tensors):
        with torch.no_grad():
            result = self.module(*(x for x in tensors.values() if x is not None))
        return list(result) if isinstance(result, tuple) else [result]


def assert_same(found, expected, relative):
    assert found.dtype == expected.dtype
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * scale)


@torch.no_grad()
def assert_parity(model, directory, graph, relative, count=5):
    event, context_dim = model.event_shape, model.flow.context_dim
    x = batch(event, count, seed=3, dtype=model.flow.dtype)
    context = make_context(context_dim, count, dtype=model.flow.dtype, seed=4)
    z, log_det = model.flow(x, context)
    found = graph(directory, "encode")(x=x, context=context)
    assert_same(found[0], z, relative)
    assert_same(found[1], log_det, relative)
    evidence = Evidence.stack([Evidence.empty(model.process.dim), Evidence.of(z[:2].clone())])
    statistics = {name: getattr(evidence, name) for name in ("count", "mean", "scatter")}
    expected = model.process.log_prob_given(z, evidence) + log_det.double().unsqueeze(1)
    assert_same(
        graph(directory, "log_prob")(z=z, log_det=log_det, **statistics)[0], expected, relative
    )
    if not (directory / "config.json").read_text().count('"sample": {'):
        return
    noise = torch.randn(count, model.process.dim, generator=generator_for(5), dtype=torch.float64)
    predictive = model.process.predictive(evidence[1]).base_dist
    drawn, _ = model.flow.inverse(predictive.loc + predictive.scale * noise, context)
    of_one = {name: values[1] for name, values in statistics.items()}
    found = graph(directory, "sample")(noise=noise, **of_one, context=context)[0]
    assert_same(found, drawn, relative)


@pytest.mark.parametrize("make", [vector_model, convolutional_model])
def test_onnx_graphs_are_the_model(tmp_path, make):
    model = make(torch.float64)
    result = export_model(model, tmp_path)
    assert set(result.files) == {"encode", "log_prob", "sample"}
    for count in (1, 5):
        assert_parity(model, tmp_path, OnnxGraph, 1e-9, count)
    config = json.loads((tmp_path / "config.json").read_text())
    for graph in config["graphs"].values():
        content = (tmp_path / graph["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == graph["sha256"]
    shapes = {name: x["shape"] for name, x in config["graphs"]["log_prob"]["inputs"].items()}
    dim = model.process.dim
    assert shapes["z"] == ["batch", dim]
    assert shapes["mean"] == ["sets", dim]
    assert config["graphs"]["log_prob"]["outputs"]["log_prob"]["shape"] == ["batch", "sets"]
    session = OnnxGraph(tmp_path, "log_prob").session
    assert [x.name for x in session.get_inputs()] == [*shapes]


def pretrained_model():
    return Bruno.from_pretrained("glyphs")


def sums_model():
    return small_model("sums, 1x8x8")


# benchmarks/export_parity.py measures every model that comes with the package, and every graph.
@pytest.mark.parametrize("make", [pretrained_model, sums_model])
def test_models_in_single_precision_encode_the_same_under_onnxruntime(tmp_path, make):
    model = make()
    export_model(model, tmp_path, parts=["encode"])
    size = model.event_shape[-1]
    images = load_glyphs("test").images[::500][:5]
    start = (images.shape[-1] - size) // 2
    middle = images[..., start : start + size, start : start + size]
    x = dequantise(middle, generator_for(0))
    graph = OnnxGraph(tmp_path, "encode")
    in_double = copy.deepcopy(model).double()
    for some in (slice(1), slice(None)):
        with torch.no_grad():
            expected = model.flow(x[some])
            exact = in_double.flow(x[some].double())
        found = graph(x=x[some])
        for graphs, own, exactly in zip(found, expected, exact, strict=True):
            # Both round in single precision.
            rounding = float((own - exactly).abs().max() / exactly.abs().max())
            assert_same(graphs, own, max(1e-5, 2 * rounding))


def test_torch_graphs_are_the_model(tmp_path):
    model = convolutional_model(torch.float32)
    export_model(model, tmp_path, format="torch-export")
    assert_parity(model, tmp_path, TorchGraph, 1e-6)


def test_another_precision(tmp_path):
    model = small_model("affine, 5")
    export_model(
        model, tmp_path, format="torch-export", dtype="float64", parts=["log_prob", "encode"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "encode.pt2",
        "log_prob.pt2",
    ]
    assert model.flow.dtype == torch.float32
    assert_parity(frozen(model, torch.float64), tmp_path, TorchGraph, 1e-12)


def test_frozen_models_are_the_model():
    for case in CASES:
        model = small_model(case, dtype=torch.float64)
        x = batch(model.event_shape, 3)
        context = make_context(model.flow.context_dim, 3)
        with torch.no_grad():
            expected, log_det = model.flow(x, context)
            found, of_frozen = frozen(model).flow(x, context)
            back, _ = frozen(model).flow.inverse(found, context)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(of_frozen, log_det)
        torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_is_named(tmp_path, capsys):
    model = small_model("sums, 1x8x8")
    with pytest.raises(UserError, match="parts: expected some of encode, log_prob, got sample: a "):
        export_model(model, tmp_path / "out", parts=["sample"])
    with pytest.raises(UserError, match="format: expected one of onnx, torch-export, got 'tflite'"):
        export_model(model, tmp_path / "out", format="tflite")
    with pytest.raises(UserError, match="parts: expected one of encode, log_prob, sample, got 'x'"):
        export_model(model, tmp_path / "out", parts=["x"])
    with pytest.raises(UserError, match="metadata: expected what JSON can hold"):
        export_model(
            small_model("diagonal, 5"),
            tmp_path / "out",
            format="torch-export",
            parts=["log_prob"],
            metadata={"a": {1, 2}},
        )
    assert not (tmp_path / "out").exists()
    (tmp_path / "config.json").write_text("{}")
    assert main(["export", "--pretrained", "glyphs", "--out", str(tmp_path)]) == 2
    assert "holds a model already; --overwrite replaces it" in capsys.readouterr().err


def test_the_command_writes_graphs(tmp_path, capsys):
    small_model("diagonal, 5").save_pretrained(tmp_path / "model")
    arguments = ["export", "--run", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--parts", "log_prob", "--format", "torch-export", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {"log_prob": "log_prob.pt2"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["metadata"]["model"] == "model"
