"""Correlation, latents, robustness and probes of the likelihood."""

import math

import pytest
import torch

from bruno import Bruno, ExchangeableGaussian, ExchangeableStudentT, RealNVP, UserError
from bruno.evaluation.correlation import correlation
from bruno.evaluation.latents import _kolmogorov_smirnov, latents
from bruno.evaluation.robustness import robustness
from bruno.evaluation.set_likelihood import likelihood
from tests.evaluation.conftest import make_dataset, make_model


class TestCorrelation:
    def test_counts_and_spectrum_are_those_of_the_process(self, dataset):
        result = correlation(make_model(), dataset, images=4)
        expected = make_model().process.correlation.sort(descending=True).values
        assert result.spectrum == pytest.approx(expected.tolist(), abs=1e-6)
        assert result.above == (0, 64, 64, 64)
        assert result.other_patches == ()
        assert torch.tensor(result.patches).mean() == pytest.approx(1.0, abs=1e-3)

    def test_a_patch_that_alone_moves_correlated_latents_is_found(self):
        """A flow of pixels one by one: latent i is pixel i, and only pixel 9 is correlated."""
        covariance = torch.zeros(64)
        covariance[9] = 0.8
        flow = RealNVP((1, 8, 8), preset="dense", dense_couplings=0).double()
        model = Bruno(flow, ExchangeableGaussian.from_parameters(torch.ones(64), covariance))
        result = correlation(model, make_dataset(), images=6)
        patches = torch.tensor(result.patches)
        row, column = divmod(int(patches.argmax()), patches.shape[1])
        edges = torch.linspace(0, 8, 8).round()
        assert edges[row] <= 1 < edges[row + 1]
        assert edges[column] <= 1 < edges[column + 1]
        assert (patches > 0).sum() == 1

    def test_degrees_of_freedom_of_a_student_t_process(self, dataset):
        process = ExchangeableStudentT.from_parameters(torch.ones(64), 0.5, df=7.0)
        result = correlation(Bruno(make_model().flow, process), dataset, images=2)
        assert result.degrees_of_freedom == pytest.approx((7.0, 7.0, 7.0))
        assert "degrees of freedom" in result.rows()[-1][0]
        assert correlation(make_model(), dataset, images=2).degrees_of_freedom == ()


class TestLatents:
    def test_distances_agree_with_scipy(self):
        from scipy.stats import kstest

        values = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).double()
        distances = _kolmogorov_smirnov(values)
        for column in range(3):
            expected = kstest(values[:, column].numpy(), "uniform").statistic
            assert float(distances[column]) == pytest.approx(expected)

    def test_samples_of_the_model_itself_are_mostly_accepted(self):
        model = make_model()
        z = torch.randn(400, 64, generator=torch.Generator().manual_seed(1)).double()
        cumulative = torch.distributions.Normal(0.0, 1.0).cdf(z)
        above = _kolmogorov_smirnov(cumulative) > 1.358 / math.sqrt(400)
        assert above.double().mean() < 0.2
        assert model.process.dim == 64

    @pytest.mark.parametrize("process", ["gaussian", "student_t"])
    def test_figures_hold_together(self, dataset, process):
        result = latents(make_model(process), dataset, images=12)
        assert result.images == 12
        assert result.distances == tuple(sorted(result.distances))
        assert 0 <= result.rejected <= 1
        assert result.to_dict()["median"] == result.median
        assert len(result.dimensions) == len(result.dimension_distances)
        assert result.rows()[0][0] == "12"


class TestRobustness:
    def test_every_process_is_measured_with_every_number_of_contaminants(self):
        results = robustness(
            make_model(),
            make_dataset(size=8),
            way=4,
            shot=3,
            contaminants=(0, 2),
            set_size=5,
            trials=2,
        )
        assert [one.process for one in results] == [
            "Gaussian",
            "Student-t, df 5",
            "Student-t, df 30",
            "Student-t, df 1000",
        ]
        assert [one.trained for one in results] == [True, False, False, False]
        assert results[0].difference.mean == 0
        # With very many degrees of freedom the two processes agree.
        assert results[-1].nll.mean == pytest.approx(results[0].nll.mean, rel=1e-2)
        assert all(one.accuracy[0].mean >= one.accuracy[1].mean for one in results)
        assert len(results[0].rows()) == 2

    def test_a_student_t_model_keeps_its_degrees_of_freedom(self):
        results = robustness(
            make_model("student_t"),
            make_dataset(size=8),
            way=3,
            shot=2,
            contaminants=(0,),
            set_size=4,
            trials=1,
        )
        assert results[0].process == "Student-t, its own df"
        assert results[1].process == "Gaussian"

    def test_no_contaminants_are_refused(self, dataset):
        with pytest.raises(UserError, match=r"^contaminants: "):
            robustness(make_model(), dataset, contaminants=())


class TestProbes:
    def test_one_image_again_and_again_is_learnt_and_contaminants_cost(self):
        result = likelihood(make_model(), make_dataset(), set_size=5, probes=True)
        probes = result.probes
        assert probes is not None
        assert probes.same_image[-1].mean < probes.same_image[0].mean
        assert probes.contaminant_cost.mean > 0
        assert len(probes.contaminant_first) == 5
        assert {"same_image", "contaminant_first", "contaminant_cost"} == {
            *result.to_dict()["probes"]
        }
        assert len(result.rows()) == 7

    def test_the_usual_figures_do_not_change(self, dataset):
        without = likelihood(make_model(), dataset, set_size=4).to_dict()
        with_probes = likelihood(make_model(), dataset, set_size=4, probes=True).to_dict()
        with_probes.pop("probes")
        assert without == with_probes

    def test_they_need_two_images(self, dataset):
        with pytest.raises(UserError, match=r"^probes: expected"):
            likelihood(make_model(), dataset, set_size=1, probes=True)
