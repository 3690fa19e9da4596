import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bruno import (
    Bruno,
    BrunoClassifier,
    BrunoDensity,
    CheckpointError,
    Evidence,
    ExchangeableGaussian,
    RealNVP,
    UserError,
)

X, Y = load_iris(return_X_y=True)
processes = pytest.mark.parametrize("process", ["gaussian", "student_t"])
flows = pytest.mark.parametrize("flow", ["affine", "linear"])


def fitted(**parameters):
    return BrunoClassifier(random_state=0, **parameters).fit(X[::2], Y[::2])


@processes
@flows
def test_probabilities_are_those_of_the_predictive_densities(process, flow):
    classifier = fitted(process=process, flow=flow, temperature=1.0)
    elements = torch.from_numpy(X[1::2])
    with torch.no_grad():
        scores = torch.stack(
            [
                classifier.model_.condition(torch.from_numpy(X[::2][Y[::2] == k])).log_prob(
                    elements
                )
                for k in range(3)
            ],
            1,
        )
        unknown = classifier.model_.prior().log_prob(elements)
    expected = scores.log_softmax(1).numpy()
    np.testing.assert_allclose(classifier.predict_log_proba(X[1::2]), expected, atol=1e-8)
    np.testing.assert_allclose(classifier.score_samples(X[1::2]), unknown.numpy(), atol=1e-8)
    assert classifier.score(X[1::2], Y[1::2]) > 0.9


@processes
@flows
def test_examples_one_by_one_in_any_order_equal_all_at_once(process, flow):
    start = BrunoClassifier(process=process, flow=flow, temperature=2.0).fit(X[:60], Y[:60])
    at_once = clone(start).fit(X[:60], Y[:60]).partial_fit(X[60:], Y[60:])
    for row in np.random.default_rng(0).permutation(np.arange(60, 150)):
        start.partial_fit(X[row : row + 1], Y[row : row + 1])
    np.testing.assert_array_equal(start.classes_, [0, 1, 2])
    np.testing.assert_allclose(start.predict_log_proba(X), at_once.predict_log_proba(X), atol=1e-9)


@processes
@flows
def test_forgetting_equals_never_having_seen(process, flow):
    model = fitted(process=process, flow=flow).model_
    never = BrunoClassifier(model=model).fit(X[5:90], Y[5:90])
    forgot = BrunoClassifier(model=model, temperature=never.temperature_).fit(X, Y)
    forgot.forget(X[:5], Y[:5]).forget(X[90:], Y[90:])
    np.testing.assert_array_equal(forgot.classes_, [0, 1])
    np.testing.assert_allclose(
        forgot.predict_log_proba(X), never.predict_log_proba(X), rtol=1e-9, atol=1e-9
    )


def test_more_dimensions_than_elements():
    x = np.random.default_rng(0).normal(size=(30, 60))
    y = np.arange(30) % 3
    model = BrunoClassifier(process="student_t", temperature=1.0).fit(x, y).model_
    assert float(model.process.df.min()) >= 3
    classifier = BrunoClassifier(model=model, temperature=1.0).fit(x[:20], y[:20])
    before = classifier.predict_log_proba(x)
    classifier.partial_fit(x[20:], y[20:]).forget(x[20:], y[20:])
    np.testing.assert_allclose(classifier.predict_log_proba(x), before, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_forgotten_is_refused_and_nothing_changes():
    classifier = fitted()
    before = classifier.predict_log_proba(X)
    with pytest.raises(UserError, match="expected known classes, got 7"):
        classifier.forget(X[:2], [0, 7])
    with pytest.raises(UserError, match="expected at most as many elements as were seen"):
        classifier.forget(X[:50], Y[:50])
    with pytest.raises(UserError, match="no subset of what was seen"):
        classifier.forget(X[:2] + 100, Y[:2])
    with pytest.raises(UserError, match="no class would be left"):
        classifier.forget(X[::2], Y[::2])
    np.testing.assert_array_equal(classifier.predict_log_proba(X), before)


def test_classes_without_examples_can_be_announced():
    classifier = fitted(class_prior="empirical").partial_fit(X[:1], Y[:1], classes=[0, 1, 2, 3])
    np.testing.assert_array_equal(classifier.classes_, [0, 1, 2, 3])
    assert classifier.evidence_.count.tolist() == [26, 25, 25, 0]
    assert np.isfinite(classifier.predict_log_proba(X)).all()


def test_the_prior_of_classes():
    even = fitted(class_prior="uniform")
    tilted = fitted(class_prior=[0.98, 0.01, 0.01])
    difference = tilted.predict_log_proba(X) - even.predict_log_proba(X)
    odds = difference[:, 0] - difference[:, 1]
    np.testing.assert_allclose(odds, np.log(98), atol=1e-8)
    with pytest.raises(UserError, match="class_prior: expected 3 positive probabilities"):
        fitted(class_prior=[0.5, 0.5]).predict(X)
    with pytest.raises(UserError, match="class_prior: expected 'uniform'"):
        fitted(class_prior="even")


@pytest.mark.parametrize("names", [np.array([10, 20]), np.array(["setosa", "versicolor"])])
def test_what_is_of_no_known_class_is_rejected(names):
    known = Y < 2
    classifier = BrunoClassifier(reject=0.3, random_state=0).fit(X[known], names[Y[known]])
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    predicted = classifier.predict(X)
    assert predicted.dtype.kind == names.dtype.kind
    unknown = predicted == classifier.unknown_label_
    assert unknown[~known].mean() > 0.5
    assert unknown[known].mean() < 0.1
    with pytest.raises(UserError, match="reject: expected a probability"):
        BrunoClassifier(reject=1.0).fit(X, Y)


@flows
def test_samples_follow_the_predictive(flow):
    classifier = fitted(flow=flow, process="gaussian")
    drawn = classifier.sample(1, 4000, random_state=1)
    of_class = X[::2][Y[::2] == 1]
    np.testing.assert_allclose(drawn.mean(0), of_class.mean(0), atol=0.15)
    assert (classifier.predict(drawn) == 1).mean() > 0.8
    np.testing.assert_array_equal(drawn, classifier.sample(1, 4000, random_state=1))
    with pytest.raises(UserError, match="label: expected one of"):
        classifier.sample(9)


def test_ranking_finds_more_of_a_handful():
    digits, labels = load_digits(return_X_y=True)
    classifier = BrunoClassifier(process="gaussian", flow="affine", temperature=1.0)
    classifier.fit(digits[labels < 8], labels[labels < 8])
    nines, corpus = np.flatnonzero(labels == 9)[:5], digits[1000:]
    rows, scores = classifier.rank(digits[nines], corpus, top_k=20)
    assert (labels[1000:][rows] == 9).mean() > 0.7
    assert (np.diff(scores) <= 0).all()
    assert len(classifier.rank(digits[nines], corpus)[0]) == len(corpus)
    with pytest.raises(UserError, match="top_k"):
        classifier.rank(digits[nines], corpus, top_k=0)


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


def test_temperature_changes_confidence_and_not_density():
    cold, hot = fitted(temperature=1.0), fitted(temperature=10.0)
    assert cold.predict_proba(X).max(1).mean() > hot.predict_proba(X).max(1).mean()
    np.testing.assert_array_equal(cold.predict(X), hot.predict(X))
    np.testing.assert_array_equal(cold.score_samples(X), hot.score_samples(X))
    with pytest.raises(UserError, match="temperature: expected 'auto'"):
        fitted(temperature=0)
    with pytest.raises(UserError, match="temperature: expected 'auto'"):
        fitted(temperature="high")


def test_a_dense_flow_is_learnt():
    moons = np.random.default_rng(0).normal(size=(200, 2))
    labels = (np.abs(moons[:, 0]) > 0.7).astype(int)  # no linear map tells these apart
    parameters = {"random_state": 0, "process": "gaussian"}
    dense = BrunoClassifier(flow="dense", steps=300, **parameters).fit(moons, labels)
    linear = BrunoClassifier(flow="linear", **parameters).fit(moons, labels)
    assert dense.score(moons, labels) > 0.1 + linear.score(moons, labels)
    with pytest.raises(UserError, match="D >= 2"):
        BrunoClassifier(flow="dense", steps=1).fit(moons[:, :1], labels)
    with pytest.raises(UserError, match="steps: expected at least 1"):
        BrunoClassifier(flow="dense", steps=0).fit(moons, labels)


def test_an_image_model_takes_rows_of_grey_levels_or_images():
    model = Bruno(RealNVP((1, 8, 8), filters=4, dense_units=4), ExchangeableGaussian(64)).double()
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
    labels = np.arange(12) % 2
    rows = BrunoClassifier(model=model).fit(images.reshape(12, 64), labels)
    whole = BrunoClassifier(model=model).fit(images, labels)
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


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"process": "cauchy"}, "process: expected one of gaussian, student_t"),
        ({"flow": "paper"}, "flow: expected one of None, affine, linear, dense"),
        ({"model": 3}, "model: expected a Bruno, a path, a name or None"),
        ({"model": "nothing"}, "nothing"),
        ({"scale": "rows"}, "scale: expected one of columns, common"),
        ({"device": "tpu"}, "device: expected auto, cpu or cuda"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(UserError, match=message):
        BrunoClassifier(**parameters).fit(X, Y)


def test_in_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), BrunoClassifier(random_state=0))
    search = GridSearchCV(pipeline, {"brunoclassifier__process": ["gaussian", "student_t"]}, cv=3)
    assert search.fit(X, Y).best_score_ > 0.9


@pytest.mark.parametrize("names", [np.arange(3), np.array(["a", "b", "c"])])
def test_saved_and_loaded(tmp_path, names):
    classifier = fitted(reject=0.1).partial_fit(X[1::2], Y[1::2])
    classifier.classes_  # noqa: B018
    classifier = BrunoClassifier(random_state=0, reject=0.1).fit(X, names[Y])
    classifier.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    assert loaded.get_params() == classifier.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    loaded.partial_fit(X[:1], names[Y[:1]])
    assert loaded.evidence_.count.sum() == 151
    with pytest.raises(UserError, match="expected a saved BrunoDensity"):
        BrunoDensity.load(tmp_path / "saved")
    (tmp_path / "saved" / "evidence.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"evidence\.safetensors"):
        BrunoClassifier.load(tmp_path / "saved")
    with pytest.raises(NotFittedError):
        BrunoClassifier().save(tmp_path / "never")


@pytest.mark.parametrize("magnitude", [1e-300, 1e150, 1e300])
def test_magnitudes_do_not_matter(magnitude):
    expected = fitted().predict_proba(X)
    scaled = BrunoClassifier(random_state=0).fit(X[::2] * magnitude, Y[::2])
    np.testing.assert_allclose(scaled.predict_proba(X * magnitude), expected, atol=1e-6)


def test_one_example_of_each_class():
    classifier = BrunoClassifier().fit(X[[0, 60, 120]], Y[[0, 60, 120]])
    assert classifier.score(X, Y) > 0.6
    one = BrunoClassifier().fit(X[:1], ["only"])
    assert one.predict(X[5:7]).tolist() == ["only", "only"]
