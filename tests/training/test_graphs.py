"""Steps that can be recorded as CUDA graphs."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bruno import UserError, validation
from bruno.pretrained import build
from bruno.training import Experiment, ObjectiveConfig, TrainingConfig, train
from bruno.training.batches import training_batch
from bruno.training.graphs import GradientGraphs
from bruno.training.objectives import Objective
from tests.training.experiments import TINY, shortened, weights

# Operations that wait for a device, or copy to it from memory that is not pinned.
_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "equal.default", "lift")


class _Waiting(TorchDispatchMode):
    """Collects the operations that cannot be recorded."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in _WAITING):
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))


def _objective(architecture):
    torch.manual_seed(0)
    model = build({"event_shape": (1, 8, 8), "preset": architecture}, "gaussian")
    for layer in model.flow.modules():
        if type(layer).__name__ == "PixelsGivenSums":
            layer.requires_grad_(requires_grad=False)
    return Objective(model, ObjectiveConfig(1.0, 0.1, shots=(1, 2))).train()


@pytest.mark.parametrize("architecture", ["sums", "compact", "lattice", "spectral", "paper"])
def test_nothing_in_a_step_waits_for_the_device(architecture, monkeypatch):
    objective, x = _objective(architecture), torch.rand(3, 4, 1, 8, 8) * 255
    with _Waiting() as checked:
        objective(x, 1).loss.backward()
    assert checked.found
    original = validation.values_can_be_checked
    for name, module in list(sys.modules.items()):
        if name.startswith("bruno") and getattr(module, "values_can_be_checked", None) is original:
            monkeypatch.setattr(module, "values_can_be_checked", lambda _: False)
    with _Waiting() as recorded:
        objective(x, 1).loss.backward()
    assert not recorded.found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("architecture", ["sums", "compact"])
def test_recorded_gradients_are_those_of_the_objective(architecture, digits):
    objective = _objective(architecture).cuda()
    batches = [training_batch(digits[0], TINY, step) for step in range(4)]
    batches = [batch._replace(x=batch.x.cuda()) for batch in batches]
    graphs = GradientGraphs(objective, batches[0], (1, 2))
    for step, batch in enumerate(batches):
        shot = 1 + step % 2
        objective.zero_grad(set_to_none=False)
        losses = graphs(batch, shot)
        recorded = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        objective.zero_grad(set_to_none=False)
        eager = objective(batch.x, shot)
        eager.loss.backward()
        torch.testing.assert_close(losses.loss, eager.loss.detach())
        found = [p.grad for p in objective.parameters() if p.grad is not None]
        torch.testing.assert_close(recorded, found)


def test_on_a_cpu_a_run_is_the_same(digits, tmp_path):
    for name, recorded in (("plain", False), ("recorded", True)):
        train(shortened(3, cuda_graphs=recorded), *digits, tmp_path / name, device="cpu")
    plain, recorded = weights(tmp_path / "plain"), weights(tmp_path / "recorded")
    assert all(torch.equal(recorded[name], tensor) for name, tensor in plain.items())


def test_predictions_cannot_be_recorded():
    objective = ObjectiveConfig(prediction_weight=1.0)
    with pytest.raises(UserError, match="cuda_graphs: expected prediction_weight 0"):
        Experiment(objective=objective, training=TrainingConfig(cuda_graphs=True))
