import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from bruno import UserError
from bruno.evaluation.suite import Evaluation, Settings, Subject, evaluate
from bruno.reporting import plots
from bruno.reporting.page import Picture, Section, Table, Tile, render_report, write_report
from bruno.reporting.report import experiment_report
from tests.evaluation.conftest import make_dataset, make_model

VOID = {"meta", "img", "br"}
NAMES = {"title": "title", "command": "command"}


class Page(HTMLParser):
    """Parses a page, checks that tags are balanced, and collects attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def assert_self_contained(html: str, page: Page) -> None:
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html


def test_strings_are_escaped_everywhere():
    evil = '<script>alert("1")</script>&'
    picture = Picture(plots.image_grid(torch.zeros(1, 1, 1, 4, 4)), evil)
    table = Table((evil, evil), ((evil, evil),))
    sections = [
        Section(evil, evil, table, (picture,), ((evil, evil),)),
        Section(evil, evil, folded=True),
    ]
    html = render_report(evil, sections, evil, lead=evil, tiles=[Tile(evil, evil, evil)])
    page = Page(html)
    assert "<script" not in html
    assert_self_contained(html, page)
    assert page.text.count(evil) == 18


def test_pictures_are_whole_png_files():
    ax = plots.image_grid(torch.full((2, 2, 1, 8, 8), 128.0))
    html = render_report("t", [Section("s", pictures=(Picture(ax, "c"),))])
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert image.width >= 3 * 18


@pytest.mark.parametrize("context_dim", [0, 2])
def test_experiment_page(context_dim):
    model = make_model("student_t", context_dim)
    dataset = make_dataset(classes=6, size=5)
    if context_dim:
        dataset = replace(dataset, context=torch.rand(30, 2))
    settings = Settings(ways=(5,), shots=(1,), trials=2, set_size=4, streams=3, seed=7)
    evaluation = evaluate(Subject(model, dataset), settings, protocols=["all"])
    history = [
        {
            "kind": "train",
            "step": step,
            "images": step * 640,
            "seconds": step * 40.0,
            "nll": 500.0 - step,
            "accuracy": None,
        }
        for step in range(1, 101)
    ]
    arguments = (model, "<train> images", dataset, history, evaluation)
    config = {"optimiser": {"rate": 0.001}, "name": "<b>"}
    html = experiment_report(*arguments, config, title="a < b", command="bruno train & more")
    page = Page(html)
    assert_self_contained(html, page)
    for expected in (
        "<train> images",
        "bruno train & more",
        f"{sum(p.numel() for p in model.parameters()):,}",
        "64,000",
        "1 h 06 min 40 s",
        "a < b",
        f"{evaluation.results['likelihood'][0].nll}",
        "seed 7",
        "CPUs",
        "optimiser.rate",
        "synthetic/test: 30 images of 6 classes",
    ):
        assert expected in page.text, expected
    # Given 1 and 5 (all there are), prior, one training curve, and a picture of every protocol but
    # those of conditional models.
    protocols = {*evaluation.results}
    assert len(page.links) == 4 + len(protocols - {"views", "pose"})
    if not context_dim:
        assert f"{evaluation.results['few_shot'][0].accuracy} %" in page.text
        assert "chance 20 %" in page.text
        assert {"anomalies", "robustness"} <= protocols


@pytest.mark.parametrize("trained", [False, True])
def test_classes_are_called_new_only_if_they_are(trained):
    model, dataset = make_model(), make_dataset(classes=3, size=2)
    arguments = (model, "", dataset, [], nothing_measured(0), {})
    text = Page(experiment_report(*arguments, **NAMES, trained_classes=trained)).text
    assert ("that were also trained on" in text) == trained
    assert ("classes never seen in training" in text) != trained


def nothing_measured(seed: int) -> Evaluation:
    return Evaluation({}, "synthetic/test", seed, 0.0)


def test_pictures_depend_on_the_seed_alone():
    model, dataset = make_model(), make_dataset()

    def pictures(seed: int) -> list[str]:
        measured = nothing_measured(seed)
        return Page(experiment_report(model, "", dataset, [], measured, {}, **NAMES)).links

    assert pictures(0) == pictures(0)
    assert pictures(0) != pictures(1)


def test_other_images_are_refused():
    dataset = make_dataset()
    wrong = replace(dataset, images=dataset.images[..., :6])
    with pytest.raises(UserError, match="test_dataset: expected images of shape"):
        experiment_report(make_model(), "", wrong, [], nothing_measured(0), {}, **NAMES)


def test_writing(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(path, "<p>ä</p>")
    write_report(path, "<p>ö</p>")
    assert path.read_text(encoding="utf-8") == "<p>ö</p>"
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(UserError, match="path: cannot write"):
        write_report(path / "below-a-file.html", "")
