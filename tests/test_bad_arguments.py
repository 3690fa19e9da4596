"""Every number, shape, tensor and generator that a public function takes is checked by name."""

import numpy as np
import pytest
import torch

from bruno import (
    Bruno,
    Evidence,
    ExchangeableGaussian,
    ExchangeableStudentT,
    Flow,
    RealNVP,
    few_shot,
)
from bruno.data import (
    Augmentation,
    ContextFeature,
    LabelledImages,
    augment,
    dequantise,
    encode_context,
    quantise,
    rotate,
    sample_episode,
    sample_sets,
)
from bruno.data.pen_width import change_stroke_width
from bruno.data.scan_background import fit_background
from bruno.data.scans import ScanOptions, prepare_scan
from bruno.errors import UserError
from bruno.evaluation import (
    encode_dataset,
    estimate,
    exchangeability,
    few_shot_accuracy,
    likelihood,
    set_anomalies,
)
from bruno.evaluation.generation import generation, judge_of
from bruno.evaluation.similarity import structural_similarity
from bruno.evaluation.suite import Settings
from bruno.seeding import generator_for

NO_NUMBER = ("x", None, [1], torch.nan)
NEGATIVE = (*NO_NUMBER, -1)
NO_WHOLE = (*NEGATIVE, 1.5, torch.inf, True)
NO_COUNT = (*NO_WHOLE, 0)
NO_SHAPE = ("x", None, -1, 1.5, (-1,), (1.5,), ((1,),))
NO_TENSOR = ("x", None, 3, [0.5], np.zeros(2))
NO_GENERATOR = ("x", 0, 0.5)
NO_COUNTS = (3, "x", None, (-1,), (1.5,), ("x",), (torch.nan,))

MODEL = Bruno(RealNVP((1, 8, 8), filters=4, dense_units=8), ExchangeableGaussian(64))
VECTORS = Bruno(RealNVP((4,)), ExchangeableGaussian(4))
PREDICTIVE = VECTORS.prior()
PROCESS = ExchangeableGaussian(4)
EVIDENCE = Evidence.empty(4)
IMAGES = torch.arange(48, dtype=torch.uint8).view(48, 1, 1, 1).expand(48, 1, 8, 8).contiguous()
LABELS = torch.arange(3).repeat_interleave(16)
DATA = LabelledImages(IMAGES, LABELS, ("a", "b", "c"), "grey", "test")
PAGE = torch.full((40, 40), 230, dtype=torch.uint8)
PAGE[8:30, 15:20] = 20
FEATURES = [ContextFeature("azimuth", is_angle=True)]


def generator():
    return generator_for(0)


# A function, arguments that it takes, and values that it must refuse for some of them.
CALLS = [
    (Evidence.empty, {"dim": 4, "batch_shape": (2,)}, {"dim": NO_COUNT, "batch_shape": NO_SHAPE}),
    (Evidence.of, {"z": torch.zeros(3, 4)}, {"z": NO_TENSOR}),
    (
        Evidence.by_class,
        {"z": torch.zeros(3, 4), "labels": torch.tensor([0, 1, 0])},
        {"labels": (*NO_TENSOR, torch.tensor([0, -1, 0]), torch.tensor([0.0, 1.0, 0.0]))},
    ),
    (Evidence.stack, {"sets": [EVIDENCE]}, {"sets": ([], [3], [EVIDENCE, Evidence.empty(3)])}),
    (EVIDENCE.expand, {"batch_shape": (2,)}, {"batch_shape": NO_SHAPE}),
    (EVIDENCE.without, {"other": EVIDENCE}, {"other": ("x", None, 3), "rounding": NEGATIVE}),
    (
        Evidence,
        {name: getattr(EVIDENCE, name) for name in ("count", "mean", "scatter")},
        {
            "count": (*NO_TENSOR, torch.tensor(0.0)),
            "mean": (*NO_TENSOR, torch.zeros(4)),
            "scatter": (*NO_TENSOR, torch.zeros(4)),
        },
    ),
    (ExchangeableGaussian, {"dim": 3}, {"dim": NO_COUNT}),
    (
        ExchangeableStudentT.from_parameters,
        {"variance": 1.0, "covariance": 0.5, "loc": 0.0, "df": 4.0},
        dict.fromkeys(("variance", "covariance", "df"), ("x", None, torch.nan, torch.inf, -1))
        | {"loc": ("x", None, torch.nan, torch.inf)},
    ),
    (PROCESS.first, {"dim": 2}, {"dim": (*NO_COUNT, 5)}),
    (
        ExchangeableGaussian(4).set_correlation,
        {"correlation": 0.5},
        {"correlation": ("x", None, torch.nan, -0.1, 1.0, torch.zeros(3), torch.zeros(1, 4))},
    ),
    (PROCESS.predictive, {"evidence": EVIDENCE}, {"evidence": ("x", None, Evidence.empty(3))}),
    (
        PROCESS.sample,
        {"evidence": EVIDENCE},
        {"sample_shape": NO_SHAPE, "latent_scale": NEGATIVE, "generator": NO_GENERATOR},
    ),
    *(
        (draw, {}, {"sample_shape": NO_SHAPE, "latent_scale": NEGATIVE, "generator": NO_GENERATOR})
        for draw in (PREDICTIVE.sample, PREDICTIVE.rsample)
    ),
    (PREDICTIVE.log_prob, {"x": torch.zeros(2, 4)}, {"x": NO_TENSOR}),
    (PREDICTIVE.expand, {"batch_shape": (2,)}, {"batch_shape": NO_SHAPE}),
    (
        RealNVP,
        {"event_shape": (1, 8, 8), "context_dim": 2, "context_angles": (0,)},
        {
            "event_shape": (3, "x", None, (), (0,), (1.5,), (8, 8)),
            "context_dim": NO_WHOLE,
            "context_angles": (*NO_COUNTS, (1,)),
            "filters": ("x", [1], -1, 1.5, True, 0),
        },
    ),
    (
        Flow,
        {"layers": list(RealNVP((4,)).layers.layers), "event_shape": (4,)},
        {
            "layers": ((), [3], 3),
            "event_shape": (3, None, (), (0,), (1.5,), (2, 2)),
            "context_dim": NO_WHOLE,
        },
    ),
    (Bruno, {"flow": VECTORS.flow, "process": PROCESS}, {"flow": (3,), "process": (3, "x")}),
    (Bruno.from_pretrained, {"name_or_path": "glyphs"}, {"name_or_path": (3, None, "")}),
    (
        few_shot.classify,
        {
            "model": VECTORS,
            "support": torch.zeros(2, 4),
            "support_labels": ["a", "b"],
            "query": torch.zeros(1, 4),
        },
        {"support_labels": (3, None, "ab", ["a"]), "support": NO_TENSOR, "query": NO_TENSOR},
    ),
    (
        LabelledImages,
        {"images": IMAGES, "labels": LABELS, "class_names": ["a", "b", "c"]}
        | {"name": "grey", "split": "test"},
        {
            "images": (*NO_TENSOR, IMAGES.float()),
            "labels": (*NO_TENSOR, LABELS.float()),
            "context": NO_TENSOR[2:],
        },
    ),
    (DATA.indices_of, {"class_index": 1}, {"class_index": (*NO_WHOLE, 3)}),
    (
        sample_sets,
        {"dataset": DATA, "sets": 2, "size": 2, "generator": generator()},
        {"sets": NO_COUNT, "size": NO_COUNT, "generator": (*NO_GENERATOR, None)},
    ),
    (
        sample_episode,
        {"dataset": DATA, "way": 2, "shot": 1, "queries": 1, "generator": generator()},
        dict.fromkeys(("way", "shot", "queries"), NO_COUNT),
    ),
    (
        rotate,
        {"images": IMAGES, "quarter_turns": -1},
        {"images": (*NO_TENSOR, torch.zeros(3)), "quarter_turns": (*NO_NUMBER, 1.5)},
    ),
    (
        dequantise,
        {"images": IMAGES, "generator": None},
        {"images": NO_TENSOR, "generator": NO_GENERATOR},
    ),
    (quantise, {"images": IMAGES.float()}, {"images": NO_TENSOR}),
    (
        augment,
        {"images": IMAGES, "augmentation": Augmentation(degrees=5), "generator": generator()},
        {"images": NO_TENSOR, "augmentation": ("x", None), "generator": (*NO_GENERATOR, None)},
    ),
    (
        Augmentation,
        {},
        dict.fromkeys(("degrees", "scale", "elastic", "elastic_smoothness"), NEGATIVE),
    ),
    (encode_context, {"features": FEATURES, "values": {"azimuth": 3.0}}, {"features": (["x"],)}),
    (
        lambda context: encode_context(FEATURES, {"azimuth": context}),
        {"context": 3.0},
        {"context": ("x", None, torch.nan)},
    ),
    (
        ScanOptions,
        {},
        {
            "ink": ("x", 3, None),
            "background_degree": (*NO_WHOLE, 5),
            "ink_range": (3, "x", (), (0.5,), (-1, 0.5), (0.8, 0.2), (0.2, torch.nan)),
            "smallest_part": (*NEGATIVE, 1.0),
            "character_size": (*NEGATIVE, 0, 29),
            "stroke_width": ("x", [1], -1, torch.nan),
            "stroke_correction": (*NEGATIVE, 1.1),
        },
    ),
    (prepare_scan, {"image": PAGE}, {"image_size": NO_COUNT, "image": (None, PAGE.float())}),
    (fit_background, {"page": PAGE.double().numpy(), "degree": 1}, {"degree": NO_WHOLE}),
    (
        change_stroke_width,
        {"ink": (PAGE < 100).double().numpy(), "width": 2.0},
        {"width": (*NEGATIVE, torch.inf), "correction": (*NEGATIVE, 1.5)},
    ),
    (
        encode_dataset,
        {"model": MODEL, "images": IMAGES, "generator": None},
        {"images": NO_TENSOR, "batch_size": NO_COUNT, "generator": NO_GENERATOR},
    ),
    (
        few_shot_accuracy,
        {"model": MODEL, "dataset": DATA, "way": 2, "shot": 2, "rotations": False, "trials": 1},
        {
            **dict.fromkeys(("way", "shot", "trials"), NO_COUNT),
            "seed": NO_WHOLE,
            "contaminants": (*NO_WHOLE, 2),
            "encoded": NO_TENSOR[2:],
        },
    ),
    (
        likelihood,
        {"model": MODEL, "dataset": DATA, "set_size": 2},
        {"set_size": NO_COUNT, "sets": NO_COUNT[2:], "seed": NO_WHOLE}
        | {"importance_samples": NO_WHOLE},
    ),
    (
        set_anomalies,
        {"model": MODEL, "dataset": DATA, "set_size": 4, "n_anomalies": 1},
        dict.fromkeys(("set_size", "n_anomalies", "sets_per_class"), NO_COUNT) | {"seed": NO_WHOLE},
    ),
    (
        exchangeability,
        {"model": VECTORS, "x": torch.zeros(2, 4), "permutations": 1, "generator": generator()},
        {"permutations": NO_COUNT, "x": NO_TENSOR, "generator": (*NO_GENERATOR, None)},
    ),
    (
        generation,
        {"model": MODEL, "dataset": DATA, "judge": judge_of(MODEL), "given": (1,), "way": 2}
        | {"episodes": 1, "samples": 2},
        {
            **dict.fromkeys(("way", "episodes", "samples"), NO_COUNT),
            "given": (*NO_COUNTS, (), (0,)),
            "latent_scales": (3, None, (), (-1,), ("x",), (torch.nan,)),
            "seed": NO_WHOLE,
        },
    ),
    (
        estimate,
        {"values": torch.ones(2), "clusters": None},
        {"values": NO_TENSOR, "clusters": ("x", 3, [0, 1], np.zeros(2))},
    ),
    (
        structural_similarity,
        {"x": torch.zeros(2, 1, 8, 8), "y": torch.zeros(2, 1, 8, 8)},
        {"x": NO_TENSOR, "y": (*NO_TENSOR, torch.zeros(2, 1, 8, 7)), "window": (*NO_COUNT, 9)},
    ),
    (
        Settings,
        {},
        {
            **dict.fromkeys(("trials", "sets_per_class"), NO_COUNT),
            "set_size": (0, -1, 1.5, "x", torch.nan),
            **dict.fromkeys(("importance_samples", "seed"), NO_WHOLE),
            "ways": (3, "x", (1,), (2.5,)),
            "shots": (3, "x", (0,), (1.5,)),
        },
    ),
]
NAMES = [getattr(call, "__qualname__", type(call).__name__) for call, _, _ in CALLS]


@pytest.mark.parametrize(("call", "good", "bad"), CALLS, ids=NAMES)
def test_what_an_argument_cannot_be_is_refused_by_its_name(call, good, bad):
    call(**good)
    for name, value in [(name, value) for name, values in bad.items() for value in values]:
        with pytest.raises(UserError, match=rf"^{name}: ") as error:
            call(**{**good, name: value})
        assert "expected" in str(error.value), (name, value)


@pytest.mark.parametrize("number", [-1, 1.5, torch.nan, "x", None, [1]])
def test_every_part_of_the_key_of_a_stream_is_checked(number):
    for key in ((number,), (0, number)):
        with pytest.raises(UserError, match="seed: expected a whole number of at least 0"):
            generator_for(*key)


def test_class_names_may_be_a_list():
    listed = LabelledImages(IMAGES, LABELS, ["a", "b", "c"], "grey", "test")
    assert listed.joined(DATA).class_names[:4] == ("a", "b", "c", "grey/test/a")
