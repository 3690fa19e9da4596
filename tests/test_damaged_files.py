"""Saved models and estimators of which some bits were flipped, or that were cut short."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bruno import (
    Bruno,
    BrunoClassifier,
    BrunoDensity,
    BrunoOutlierDetector,
    CheckpointError,
    ExchangeableGaussian,
    ExchangeableStudentT,
    RealNVP,
    UserError,
)
from bruno.training.checkpoint import CHECKPOINT_FILE, Checkpoint, load_checkpoint, save_checkpoint
from tests.estimators.iris import X, Y
from tests.fuzzing import fuzz_settings

SMALL = {"filters": 2, "residual_blocks": 1, "dense_units": 3, "dense_couplings": 1}
MODELS = {
    "images": Bruno(RealNVP((1, 4, 4), **SMALL), ExchangeableStudentT(16)),
    "conditional": Bruno(
        RealNVP((2, 4, 4), 3, context_angles=[0], **SMALL), ExchangeableGaussian(32)
    ),
    "vectors": Bruno(RealNVP((6,), preset="affine", rank=2), ExchangeableGaussian(6)).double(),
}
ESTIMATORS = {
    "classifier": BrunoClassifier(unknown_prior=0.1, random_state=0).fit(X, Y),
    "density": BrunoDensity(flow="diagonal").fit(X),
    "detector": BrunoOutlierDetector(contamination=0.1, scale="per_feature").fit(X[Y == 0]),
}
ESTIMATORS["named"] = BrunoClassifier(temperature=2.0, class_prior=[0.2, 0.3, 0.5]).fit(
    X, np.array(["setosa", "versicolor", "virginica"])[Y]
)


def checkpoint():
    """Return the state of a run of one step."""
    model = MODELS["vectors"]
    optimiser = torch.optim.Adam(model.parameters())
    model.log_prob(torch.linspace(-1, 1, 18).view(3, 6)).backward()
    optimiser.step()
    state = model.state_dict()
    return Checkpoint(
        {"seed": 1}, 1, 0.5, state, state, optimiser.state_dict(), None, [{"loss": 2}]
    )


CHECKPOINT = checkpoint()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved")
    for name, model in MODELS.items():
        model.save_pretrained(root / name, {"labels": ["azimuth"], "note": 0.25})
    for name, estimator in ESTIMATORS.items():
        estimator.save(root / name)
    save_checkpoint(root / "run", CHECKPOINT)
    return root


def damage(data, directory, copy):
    """Write a copy of a directory in which one file is damaged."""
    copy.mkdir(exist_ok=True)
    contents = {file.name: file.read_bytes() for file in directory.iterdir()}
    victim = data.draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[victim])
    place = st.integers(0, len(content) - 1)
    for flipped in data.draw(st.lists(place, min_size=1, max_size=3)):
        content[flipped] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.integers(0, 9)) == 0:
        content = content[: data.draw(place)]
    contents[victim] = bytes(content)
    for name, whole in contents.items():
        (copy / name).write_bytes(whole)


def outputs(model):
    x = torch.linspace(1.5, 250.5, 3 * model.flow.dim).view(3, *model.event_shape)
    context = None
    if model.flow.context_dim:
        context = torch.tensor([[0.6, 0.8, 2.0]]).repeat(3, 1)
    with torch.no_grad():
        return model.log_prob(x, context)


@given(name=st.sampled_from(sorted(MODELS)), data=st.data())
@fuzz_settings(150)
def test_a_damaged_model_is_refused_or_the_same(saved, tmp_path_factory, name, data):
    copy = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    damage(data, saved / name, copy)
    try:
        loaded = Bruno.from_pretrained(copy)
    except CheckpointError as error:
        assert str(copy) in str(error)  # noqa: PT017
    else:
        assert outputs(loaded).equal(outputs(MODELS[name]))


@given(name=st.sampled_from(sorted(ESTIMATORS)), data=st.data())
@fuzz_settings(150)
def test_a_damaged_estimator_is_refused_or_the_same(saved, tmp_path_factory, name, data):
    copy = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    damage(data, saved / name, copy)
    whole = ESTIMATORS[name]
    try:
        loaded = type(whole).load(copy)
    except CheckpointError as error:
        assert str(copy) in str(error)  # noqa: PT017
    except UserError as error:
        assert f"expected a saved {type(whole).__name__}" in str(error)  # noqa: PT017
    else:
        scores = [
            one.predict_proba(X) if isinstance(one, BrunoClassifier) else one.score_samples(X)
            for one in (loaded, whole)
        ]
        np.testing.assert_array_equal(*scores)
        if not isinstance(whole, BrunoDensity):
            np.testing.assert_array_equal(loaded.predict(X), whole.predict(X))


@given(data=st.data())
@fuzz_settings(150)
def test_a_damaged_run_is_refused_or_the_same(saved, tmp_path_factory, data):
    copy = tmp_path_factory.getbasetemp() / "damaged-run"
    damage(data, saved / "run", copy)
    try:
        loaded = load_checkpoint(copy)
    except CheckpointError as error:
        assert str(copy / CHECKPOINT_FILE) in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(vars(loaded), vars(CHECKPOINT), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "pattern", "other"),
    [
        ("conditional", r'(?<="context_angles": \[)\s*0', "1"),
        ("named", r'(?<="temperature_": )2', "3"),
        ("detector", r'(?<="offset_": )-?\d', "7"),
        ("detector", r'(?<="scale": )"per_feature"', '"global"'),
    ],
)
def test_a_description_is_not_read_as_another(saved, tmp_path, name, pattern, other):
    for file in (saved / name).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (saved / name / "config.json").read_text()
    changed = re.sub(pattern, other, text, count=1)
    assert changed != text
    (tmp_path / "config.json").write_text(changed)
    load = Bruno.from_pretrained if name in MODELS else type(ESTIMATORS[name]).load
    with pytest.raises(CheckpointError, match=r"config\.json: is not the saved one"):
        load(tmp_path)
    config = json.loads(changed)
    del config["description_sha256"]  # as earlier versions wrote it
    (tmp_path / "config.json").write_text(json.dumps(config))
    load(tmp_path)
