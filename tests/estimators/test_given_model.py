import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from bruno import (
    Bruno,
    BrunoClassifier,
    Evidence,
    ExchangeableGaussian,
    RealNVP,
    UserError,
)
from tests.estimators.iris import X, Y, fitted


def test_what_was_learnt_of_some_classes_helps_with_others():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(10, 10)) * np.geomspace(0.1, 10, 10)  # how elements of a class vary

    def elements(classes, number):
        centres = rng.normal(size=(classes, 1, 10))
        noise = rng.normal(size=(classes, number, 10)) @ mixing.T
        return (centres + noise).reshape(-1, 10), np.repeat(np.arange(classes), number)

    learnt = BrunoClassifier().fit(*elements(40, 10))
    new, labels = elements(5, 41)
    handful = np.arange(len(labels)) % 41 == 0
    adapted = BrunoClassifier(model=learnt.model_).fit(new[handful], labels[handful])
    alone = BrunoClassifier().fit(new[handful], labels[handful])
    best = adapted.score(new[~handful], labels[~handful])
    assert best > 0.2 + alone.score(new[~handful], labels[~handful])


def test_an_image_model_takes_rows_of_grey_levels_or_images(monkeypatch):
    model = Bruno(RealNVP((1, 8, 8), filters=4, dense_units=4), ExchangeableGaussian(64)).double()
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
    labels = np.arange(12) % 2
    rows = BrunoClassifier(model=model, temperature=1.0).fit(images.reshape(12, 64), labels)
    whole = BrunoClassifier(model=model, temperature=1.0).fit(images, labels)
    np.testing.assert_array_equal(
        rows.predict_proba(images.reshape(12, 64)), whole.predict_proba(images)
    )
    with torch.no_grad():
        x = torch.from_numpy(images[labels == 0]).double().unsqueeze(1) + 0.5
        expected = Evidence.of(model.encode(x))
    torch.testing.assert_close(rows.evidence_[0].mean, expected.mean)
    with pytest.raises(UserError, match="whole numbers from 0 to 255"):
        rows.predict(images.reshape(12, 64) / 255)
    with pytest.raises(UserError, match="X: the model takes elements of 1 x 8 x 8, got 4 features"):
        BrunoClassifier(model=model).fit(X, Y)
    with pytest.raises(
        UserError, match=r"images of 1 x 8 x 8 or rows of 64 grey levels, got shape"
    ):
        whole.predict(images.reshape(12, 4, 16))
    before = whole.predict_log_proba(images)
    monkeypatch.setattr("bruno.chunks.PIXELS", 128)
    np.testing.assert_allclose(whole.predict_log_proba(images), before, atol=1e-9)
    drawn = whole.sample(0, 5, random_state=0)
    assert drawn.shape == (5, 64)
    assert drawn.dtype == np.uint8
    whole.partial_fit(drawn, np.zeros(5, dtype=int))


def test_a_given_model_is_not_changed():
    model = fitted().model_.requires_grad_(True)
    before = [parameter.clone() for parameter in model.parameters()]
    classifier = BrunoClassifier(model=model).fit(X, Y)
    assert classifier.model_ is not model
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(map(torch.equal, model.parameters(), before))


def test_parameters_that_a_given_model_contradicts_are_refused():
    model = fitted(process="student_t").model_
    with pytest.raises(UserError, match="process: expected 'auto' beside a model"):
        BrunoClassifier(model=model, process="gaussian").fit(X, Y)
    with pytest.raises(UserError, match="flow: expected None beside a model"):
        BrunoClassifier(model=model, flow="diagonal").fit(X, Y)
    with pytest.raises(UserError, match="marginal_map: expected 'auto' beside a model"):
        BrunoClassifier(model=model, marginal_map="yeo_johnson").fit(X, Y)
    gaussian = fitted(process="gaussian").model_
    for process in ("gaussian", "auto"):
        assert BrunoClassifier(model=gaussian, process=process).fit(X, Y).process_ == "gaussian"


def test_forgetting_is_exact_with_a_model_in_single_precision():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP((1, 8, 8), filters=4, dense_units=8, dense_couplings=2)
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model = Bruno(flow, ExchangeableGaussian(64))
    images = np.random.default_rng(0).integers(0, 256, (60, 64))
    names = np.arange(60) % 3
    never_seen = BrunoClassifier(model, temperature=1.0).fit(images[7:], names[7:])
    forgotten = BrunoClassifier(model, temperature=1.0).fit(images, names)
    for image, name in zip(images[:7, None], names[:7, None], strict=True):
        forgotten.forget(image, name)
    expected = never_seen.predict_log_proba(images[:20])
    np.testing.assert_allclose(forgotten.predict_log_proba(images[:20]), expected, atol=1e-9)


def test_other_classes_take_the_prior_of_covariances_over(tmp_path):
    x, y = load_wine(return_X_y=True)
    known, new = y < 2, y == 2
    learnt = BrunoClassifier(covariance="own", temperature=1.0).fit(x[known], y[known])
    names = np.where(np.arange(len(y)) % 2, "odd", "even")[new]
    prior = learnt.covariance_prior_
    adapted = BrunoClassifier(model=learnt.model_, covariance=prior, temperature=1.0)
    adapted.fit(x[new], names)
    assert adapted.covariance_ == "own"
    assert adapted.covariance_prior_ == prior
    # The same densities as of the same examples in the other classifier.
    learnt.partial_fit(x[new], np.where(names == "odd", 4, 3))
    expected = learnt.predict_log_proba(x)[:, 2:]
    expected -= np.logaddexp.reduce(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(adapted.predict_log_proba(x), expected, rtol=0, atol=1e-9)
    adapted.save(tmp_path / "adapted")
    again = BrunoClassifier.load(tmp_path / "adapted")
    assert again.fit(x[new], names).covariance_prior_ == prior
    with pytest.raises(UserError, match=r"covariance: expected one of 'auto'.* got \(1, -1, 1\)"):
        BrunoClassifier(covariance=(1, -1, 1)).fit(x, y)
    with pytest.raises(UserError, match="for more than 64 features or missing values, got"):
        BrunoClassifier(covariance=prior).fit(np.tile(x, 5), y)
