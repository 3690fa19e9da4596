import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from bruno import (
    BrunoClassifier,
    BrunoDensity,
    CheckpointError,
    UserError,
)
from tests.estimators.iris import X, Y, fitted
from tests.faults import every_fault


@pytest.mark.parametrize("names", [np.arange(3), np.array(["a", "b", "c"])])
def test_saved_and_loaded(tmp_path, names):
    classifier = BrunoClassifier(random_state=0, unknown_prior=0.1).fit(X, names[Y])
    classifier.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    assert loaded.get_params() == classifier.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    loaded.partial_fit(X[:1], names[Y[:1]])
    assert loaded.evidence_.count.sum() == 151
    with pytest.raises(UserError, match="expected a saved BrunoDensity"):
        BrunoDensity.load(tmp_path / "saved")
    with pytest.raises(NotFittedError):
        BrunoClassifier().save(tmp_path / "never")


def test_damaged_files_are_refused(tmp_path):
    classifier = fitted()
    classifier.save(tmp_path / "saved")
    classifier.partial_fit(X, Y).save(tmp_path / "other")
    file = tmp_path / "saved" / "evidence.safetensors"
    for content in (b"x", (tmp_path / "other" / "evidence.safetensors").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"evidence\.safetensors"):
            BrunoClassifier.load(tmp_path / "saved")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"temperature_"', '"heat"'))
    with pytest.raises(CheckpointError, match="is not a whole BrunoClassifier"):
        BrunoClassifier.load(tmp_path / "other")


@pytest.mark.parametrize("as_path", [False, True])
def test_what_was_saved_with_its_model_can_be_moved(tmp_path, as_path):
    model = fitted().model_
    model.save_pretrained(tmp_path / "model")
    given = tmp_path / "model" if as_path else model
    classifier = BrunoClassifier(model=given, temperature=1.0).fit(X, Y)
    classifier.save(tmp_path / "saved")
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    loaded = BrunoClassifier.load(moved)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(
        clone(loaded).fit(X, Y).predict_proba(X), classifier.predict_proba(X)
    )


def test_parameters_are_saved_as_plain_values(tmp_path):
    classifier = fitted(class_prior=np.array([0.2, 0.3, 0.5]), unknown_prior=np.float32(0.25))
    classifier.set_params(steps=np.int64(7)).save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    assert loaded.class_prior == [0.2, 0.3, 0.5]
    assert (loaded.unknown_prior, loaded.steps) == (0.25, 7)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    classifier.set_params(random_state=np.random.RandomState(0))
    with pytest.raises(UserError, match="random_state: expected what JSON can hold"):
        classifier.save(tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(("old", "flow"), [("linear", "affine"), ("affine", "diagonal")])
def test_names_of_format_version_1_keep_their_meaning(tmp_path, old, flow):
    classifier = fitted(flow=flow, scale="global", unknown_prior=0.2, temperature=1.0)
    classifier.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["description_sha256"]
    config["format_version"] = 1
    config["flow"]["preset"] = old
    parameters, state = config["metadata"]["parameters"], config["metadata"]["fitted"]
    parameters["flow"] = state["flow_"] = old
    parameters["scale"] = state["scale_"] = "common"
    parameters["reject"] = parameters.pop("unknown_prior")
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = BrunoClassifier.load(tmp_path)
    assert loaded.get_params() == classifier.get_params()
    assert loaded.flow_ == flow
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("flow", ["diagonal", "affine", "dense"])
def test_pickled_with_every_flow(flow):
    classifier = fitted(flow=flow, steps=3, temperature=1.0)
    again = pickle.loads(pickle.dumps(classifier)).partial_fit(X[:1], Y[:1])  # noqa: S301
    classifier.partial_fit(X[:1], Y[:1])
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_models_that_are_given_travel_to_other_processes():
    model = fitted(flow="dense", steps=3, temperature=1.0).model_
    grid = {"temperature": [1.0, 5.0]}
    search = GridSearchCV(BrunoClassifier(model=model), grid, n_jobs=2, cv=2)
    assert search.fit(X, Y).best_score_ > 1 / 3


def test_whatever_fails_the_old_or_the_new_estimator_is_there(tmp_path):
    # The two differ in model and evidence, which must not be mixed.
    both = [fitted(temperature=1.0), BrunoClassifier(temperature=1.0).fit(X[:, ::-1], Y)]
    expected = [classifier.predict_proba(X) for classifier in both]
    path = tmp_path / "saved"
    both[0].save(path)
    for number in every_fault(tmp_path, lambda number: both[number % 2].save(path)):
        found = BrunoClassifier.load(path).predict_proba(X)
        assert any(np.array_equal(found, one) for one in expected)
        both[number % 2].save(path)
        found = BrunoClassifier.load(path).predict_proba(X)
        np.testing.assert_array_equal(found, expected[number % 2])
        names = sorted(p.name for p in path.iterdir())
        assert names == ["config.json", "evidence.safetensors", "model.safetensors"]


def test_an_estimator_that_is_replaced_while_it_is_loaded_is_loaded_whole(tmp_path, monkeypatch):
    from bruno.estimators import saving

    both = [fitted(temperature=1.0), BrunoClassifier(temperature=1.0).fit(X[:, ::-1], Y)]
    both[0].save(tmp_path)
    load, loads = saving.load, []

    def late(path):
        if not loads:
            both[1].save(tmp_path)
        loads.append(path)
        return load(path)

    monkeypatch.setattr(saving, "load", late)
    found = BrunoClassifier.load(tmp_path).predict_proba(X)
    np.testing.assert_array_equal(found, both[1].predict_proba(X))
    assert len(loads) == 2
