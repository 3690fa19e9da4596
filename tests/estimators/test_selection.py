import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier, BrunoDensity, Evidence
from bruno.estimators.calibration import choose_calibration
from bruno.estimators.leave_one_out import FittedCovariance, leave_one_out
from bruno.estimators.selection import spread
from bruno.estimators.two_covariance import fit_process
from bruno.estimators.two_covariance_flow import fit_flow, prior_strength
from bruno.seeding import generator_for
from tests.processes.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_an_element_is_held_out_as_if_its_class_had_never_had_it(family):
    process = FAMILIES[family](4)
    z = torch.randn(12, 4, generator=generator_for(0), dtype=torch.float64)
    classes = torch.tensor([0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    rows = torch.tensor([5, 0, 1, 11])
    with torch.no_grad():
        found = leave_one_out(process, z, classes, None, rows)
        for row, scores in zip(rows, found, strict=True):
            left = torch.arange(12) != row
            sets = [Evidence.of(z[left & (classes == k)]) for k in range(3)]
            expected = process.log_prob_given(z[row : row + 1], Evidence.stack(sets))[0]
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_the_covariance_is_held_out_as_if_fitted_without_the_element():
    rng = np.random.default_rng(0)
    classes = torch.arange(15) % 3
    x = torch.from_numpy(rng.normal(size=(15, 8)) + rng.normal(size=(3, 8))[classes])
    model = fit_process(fit_flow(x, classes, full=True, global_scale=True), "gaussian").model
    fitted = FittedCovariance(len(x) - 3 + prior_strength(8, full=True), full=True)
    z = model.encode(x)
    refitted = []
    for row in range(len(x)):
        left = torch.arange(len(x)) != row
        flow = fit_flow(x[left], classes[left], full=True, global_scale=True)
        other = fit_process(flow, "gaussian").model
        evidence = Evidence.by_class(other.encode(x[left]), classes[left])
        refitted.append(other.process.log_prob_given(other.encode(x[row : row + 1]), evidence))
    expected = torch.cat(refitted).log_softmax(1)
    found = [leave_one_out(model.process, z, classes, how) for how in (fitted, None)]
    errors = [(scores.log_softmax(1) - expected).abs().mean() for scores in found]
    assert errors[0] < 0.8 * errors[1]
    too_good = [(scores.log_softmax(1) - expected)[range(15), classes].mean() for scores in found]
    assert abs(too_good[0]) < 0.5 * too_good[1]


def table(rng, number, dim=4, classes=2):
    y = np.arange(number) % classes
    mixing = np.eye(dim) + 0.3
    return rng.normal(size=(number, dim)) @ mixing + 1.5 * rng.normal(size=(classes, dim))[y], y


@pytest.mark.parametrize("bend", [False, True])
def test_skewed_columns_are_mapped_and_others_are_not(bend):
    x, y = table(np.random.default_rng(0), 400)
    x = np.exp(x) if bend else x
    x_new, y_new = table(np.random.default_rng(0), 400)
    expected = "yeo_johnson" if bend else None
    assert BrunoClassifier().fit(x, y).marginal_map_ == expected
    assert BrunoDensity().fit(x[y == 0]).marginal_map_ == expected
    mapped, plain = (BrunoClassifier(marginal_map=name).fit(x, y) for name in ("yeo_johnson", None))
    x_new = np.exp(x_new) if bend else x_new
    assert mapped.score(x_new, y_new) >= plain.score(x_new, y_new) - 0.01
    assert BrunoClassifier().fit(np.exp(x[:9] / 9), y[:9]).marginal_map_ is None


@pytest.mark.parametrize("differ", [False, True])
def test_the_process_is_chosen_by_whether_classes_differ_in_variance(differ):
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(6), 40)
    std = rng.uniform(0.2, 3, size=(6, 3)) if differ else np.ones((6, 3))
    x = rng.normal(size=(240, 3)) * std[y] + rng.normal(size=(6, 3))[y]
    classifier = BrunoClassifier(marginal_map=None).fit(x, y)
    assert classifier.process_ == ("student_t" if differ else "gaussian")
    assert BrunoClassifier(process="student_t").fit(x, y).process_ == "student_t"


def test_the_prior_of_the_covariance_is_weaker_where_columns_are_nearly_collinear():
    rng = np.random.default_rng(2)
    y = np.arange(300) % 3
    common = rng.normal(size=(300, 1))
    x = common + 0.05 * rng.normal(size=(300, 8)) + 0.05 * rng.normal(size=(3, 8))[y]
    strengths = [
        BrunoClassifier(process="gaussian", scale="global").fit(table_x, y).prior_strength_
        for table_x in (x, rng.normal(size=(300, 8)) + rng.normal(size=(3, 8))[y])
    ]
    assert strengths[0] < strengths[1] == prior_strength(8, full=True)


def test_a_density_with_bent_columns_integrates_to_one_and_is_sampled_from():
    x = np.random.default_rng(3).lognormal(sigma=1.2, size=(300, 1))
    density = BrunoDensity(modes=1, marginal_map="yeo_johnson", random_state=0).fit(x)
    grid = np.sinh(np.linspace(-14, 14, 400_001))
    mass = np.trapezoid(np.exp(density.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1, abs=1e-3)
    assert density.score(x) > BrunoDensity(modes=1, marginal_map=None).fit(x).score(x) + 50
    drawn = density.sample(4000)
    assert np.median(drawn) == pytest.approx(np.median(x), rel=0.3)


def test_what_was_chosen_is_saved(tmp_path):
    x, y = table(np.random.default_rng(0), 200)
    classifier = BrunoClassifier(random_state=0).fit(np.exp(x), y)
    classifier.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    for name in ("process_", "marginal_map_", "prior_strength_", "temperature_"):
        assert getattr(loaded, name) == getattr(classifier, name)
    np.testing.assert_array_equal(
        loaded.predict_proba(np.exp(x)), classifier.predict_proba(np.exp(x))
    )


def test_the_same_elements_are_held_out_in_any_order():
    generator = generator_for(4)
    x = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 4, (500,), generator=generator)
    order = torch.randperm(500, generator=generator)
    rows, others = spread(x, classes, 60), order[spread(x[order], classes[order], 60)]
    assert sorted(rows.tolist()) == sorted(others.tolist())
    assert len(set(rows.tolist())) == 60
    assert torch.equal(spread(x, classes, 500), torch.arange(500))


def test_the_temperature_allows_for_the_prior_of_the_classes():
    # Of a thousand elements that are e² times as probable in the rare class, as many are of it as
    # Bayes' rule says.
    scores = torch.tensor([[0.0, 2.0]], dtype=torch.float64).expand(1, 1000, 2)
    prior = torch.tensor([0.9, 0.1], dtype=torch.float64).log()
    share = (scores[0, 0] + prior).softmax(0)[1]
    truth = (torch.arange(1000) < 1000 * share).long()
    found = choose_calibration(scores, truth, 1.5, prior)
    assert found.temperature == pytest.approx(1, abs=0.1)
    assert choose_calibration(scores, truth, 1.5, torch.zeros(2)).temperature > 3


def test_labels_that_are_wrong_do_not_change_the_temperature():
    scores = 40 * torch.randn(1, 2000, 1, generator=generator_for(6), dtype=torch.float64)
    scores = torch.cat([scores, -scores], 2)
    truth = scores[0].argmax(1)
    wrong = torch.arange(2000) % 20 == 0
    prior = torch.zeros(2, dtype=torch.float64)
    right = choose_calibration(scores, truth, 1.0, prior)
    noisy = choose_calibration(scores, torch.where(wrong, 1 - truth, truth), 1.0, prior)
    assert right.label_noise == 0
    assert noisy.label_noise == 0.1  # half of the random labels are right by chance
    assert noisy.temperature < 1.5 * right.temperature
    log_proba = noisy.log_proba(scores[0], prior)
    torch.testing.assert_close(log_proba.exp().sum(1), torch.ones(2000, dtype=torch.float64))
    assert float(log_proba.min()) >= np.log(0.049)


def test_classes_that_are_told_apart_anyway_do_not_weaken_the_prior():
    # Of digits 0 and 1 nearly all are certain; what little a weak prior gains costs the classes
    # that come later several points.
    x, y = load_digits(return_X_y=True)
    classifier = BrunoClassifier().fit(x[y < 2][:80], y[y < 2][:80])
    assert classifier.prior_strength_ == 3 * x.shape[1]
