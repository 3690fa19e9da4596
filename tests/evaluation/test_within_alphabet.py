import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.data.dataset import LabelledImages
from bruno.errors import MissingDataError
from bruno.evaluation.suite import Settings, Subject, evaluate
from bruno.evaluation.within_alphabet import (
    EVALUATION_ALPHABETS,
    alphabet_of,
    drawn_runs,
    official_runs,
    within_alphabet_accuracy,
    without_evaluation_alphabets,
)


def characters():
    """Classes of two alphabets; the grey level of an image is its class, its corner its drawer."""
    names = [f"Large/{i:02}" for i in range(25)] + [f"Angelic/{i:02}" for i in range(5)]
    images = torch.zeros(30 * 3, 1, 16, 16, dtype=torch.uint8)
    labels = torch.arange(30).repeat_interleave(3)
    images[:] = labels.view(-1, 1, 1, 1).byte()
    images[:, 0, 0, 0] = torch.arange(3).repeat(30).byte()
    return LabelledImages(images, labels, tuple(names), "characters", "test")


def test_a_run_is_of_one_alphabet_one_drawer_of_examples_and_another_of_queries():
    episodes = drawn_runs(characters(), seed=1, runs=6)
    assert len(episodes) == 6
    for episode in episodes:
        assert episode.support.shape == episode.query.shape == (20, 1, 1, 16, 16)
        classes = episode.support[:, 0, 0, 5, 5]
        assert len(classes.unique()) == 20
        assert classes.max() < 25
        assert (episode.query[:, 0, 0, 5, 5] == classes).all()
        (first,) = episode.support[:, 0, 0, 0, 0].unique().tolist()
        (second,) = episode.query[:, 0, 0, 0, 0].unique().tolist()
        assert first != second
    assert not torch.equal(episodes[0].classes, episodes[1].classes)


def test_no_run_without_a_large_alphabet():
    assert drawn_runs(characters().restrict([f"Angelic/{i:02}" for i in range(5)])) == []


def test_alphabets_of_the_official_runs_are_left_out_of_training():
    kept = without_evaluation_alphabets(characters())
    assert {alphabet_of(name) for name in kept.class_names} == {"Large"}
    assert len(EVALUATION_ALPHABETS) == 20
    assert alphabet_of("seven") == ""


def drawing(level):
    content = io.BytesIO()
    Image.fromarray(np.full((105, 105), level, np.uint8)).save(content, "png")
    return content.getvalue()


def files():
    """Two runs; the query of a class has the grey level of its example."""
    content = {}
    for run in ("run01", "run02"):
        lines = []
        for i in range(20):
            example = (7 * i) % 20
            content[f"{run}/training/class{i + 1:02}.png"] = drawing(255 - i)
            content[f"{run}/test/item{i + 1:02}.png"] = drawing(255 - example)
            lines.append(f"{run}/test/item{i + 1:02}.png {run}/training/class{example + 1:02}.png")
        content[f"{run}/class_labels.txt"] = "\n".join(lines).encode()
    return content


def model_of(shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP(shape, preset="dense", dense_units=4, dense_couplings=1)
    # Nearly no shrinkage: the query whose image is given has the highest density.
    process = ExchangeableGaussian.from_parameters(torch.ones(flow.dim), covariance=0.9999)
    return Bruno(flow, process)


def test_a_class_of_one_grey_level_is_recognised_and_equal_classes_never_are():
    # The corner, which is the drawer's, is left dark: images of a class are then the same.
    dataset = characters()
    dataset.images[:, 0, 0, 0] = 0
    evaluation = evaluate(
        Subject(model_of((1, 16, 16)), dataset), Settings(), protocols=["within_alphabet"]
    )
    (result,) = evaluation.results["within_alphabet"]
    assert result.by_run == (100.0,) * 20
    assert (result.accuracy.mean, result.accuracy.count) == (100.0, 400)
    assert result.rows() == [["20 drawn", "100.00 ± 0.00", "5", "95.5", "100", "100"]]
    dataset.images[:] = 7
    result = within_alphabet_accuracy(model_of((1, 16, 16)), dataset)
    assert result.accuracy.mean == 0.0  # ties count as wrong
    assert result.cross_entropy.mean == pytest.approx(np.log(20))


def test_accuracy_in_official_runs(tmp_path):
    for name, content in files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    result = within_alphabet_accuracy(model_of((1, 28, 28)), characters(), lake_runs=tmp_path)
    assert (result.official, result.by_run) == (True, (100.0, 100.0))
    with pytest.raises(UserError, match=r"support: expected a tensor of shape \(n, 1, 16, 16\)"):
        within_alphabet_accuracy(model_of((1, 16, 16)), characters(), lake_runs=tmp_path)


def test_data_without_a_large_alphabet_are_refused():
    small = characters().restrict([f"Angelic/{i:02}" for i in range(5)])
    model = model_of((1, 16, 16))
    with pytest.raises(UserError, match="data: expected an alphabet with at least 20 characters"):
        within_alphabet_accuracy(model, small)
    with pytest.raises(
        UserError, match=r"'within_alphabet' needs .* classes named alphabet/character"
    ):
        evaluate(Subject(model, small), Settings(), protocols=["within_alphabet"])


@pytest.mark.parametrize("prefix", ["", "all_runs/"])
def test_official_runs_are_read_from_an_archive_or_a_folder(tmp_path, prefix):
    archive, folder = tmp_path / "all_runs.zip", tmp_path / "extracted"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files().items():
            opened.writestr(prefix + name, content)
            path = folder / prefix / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for place in (archive, folder):
        episodes = official_runs(place)
        assert len(episodes) == 2
        assert episodes[0].support.shape == (20, 1, 1, 28, 28)
        levels = episodes[0].support[:, 0, 0, 0, 0]
        assert levels.tolist() == [(7 * i) % 20 for i in range(20)]
        assert (episodes[0].query[:, 0, 0, 0, 0] == levels).all()


def test_what_holds_no_runs_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"lake_runs: .* not found"):
        official_runs(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(UserError, match=r"lake_runs: .* is not a readable zip file"):
        official_runs(tmp_path / "text.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no runNN/class_labels.txt"):
        official_runs(tmp_path / "empty")
    run = tmp_path / "broken" / "run01"
    run.mkdir(parents=True)
    (run / "class_labels.txt").write_text("run01/test/item01.png run01/training/class01.png")
    with pytest.raises(UserError, match=r"cannot read run01/class_labels.txt and its images"):
        official_runs(tmp_path / "broken")
