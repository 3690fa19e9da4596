"""Nothing the library computes depends on the default device or dtype that a caller has set."""

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT, RealNVP, few_shot
from bruno.data import (
    Augmentation,
    ContextFeature,
    DataConfig,
    LabelledImages,
    augment,
    dequantise,
    encode_context,
    load_dataset,
    load_folder,
    sample_episode,
    sample_sets,
)
from bruno.data.glyphs import draw as draw_glyph
from bruno.evaluation import (
    correlated_dimensions,
    exchangeability,
    few_shot_accuracy,
    likelihood,
    novel_views,
    pose,
    set_anomalies,
)
from bruno.flows import ARCHITECTURES
from bruno.reporting.plots import plot_correlated_dimensions, to_png
from bruno.reporting.view_pictures import draw_views
from bruno.seeding import generator_for
from bruno.training import Experiment, ModelConfig, ObjectiveConfig, TrainingConfig, train
from bruno.training.batches import training_batch
from tests.flows.architectures import small_sizes
from tests.fuzzing import fuzz_settings

AZIMUTH = ContextFeature("azimuth", is_angle=True)
PROCESSES = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}
PLAIN = ("cpu", torch.float32)
OTHERS = [("meta", torch.float16)]
if torch.cuda.is_available():
    OTHERS.append(("cuda", torch.bfloat16))
OPERATIONS = {}


def operation(function):
    OPERATIONS[function.__name__] = function
    return function


@contextlib.contextmanager
def defaults(device, dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def differences(a, b, where="result"):
    """Return where two results differ in any bit, dtypes and devices included."""
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__} and {type(b).__name__}"]
    if torch.is_tensor(a):
        kinds = [(t.dtype, t.device, tuple(t.shape)) for t in (a, b)]
        if kinds[0] != kinds[1] or a.is_meta:
            return [f"{where}: {kinds[0]} and {kinds[1]}"]
        equal = bool(((a == b) | ((a != a) & (b != b))).all())
    elif isinstance(a, np.ndarray):
        equal = a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, pair in pairs for d in differences(*pair, f"{where}[{i}]")]
    elif isinstance(a, dict) and a.keys() == b.keys():
        return [d for key in a for d in differences(a[key], b[key], f"{where}[{key!r}]")]
    elif dataclasses.is_dataclass(a):
        return differences(vars(a), vars(b), where)
    else:
        equal = a == b
    return [] if equal else [f"{where}: {a!r:.60} and {b!r:.60}"]


def numbers(seed, *shape):
    """Return uniform float32 numbers on the CPU, whatever the defaults are."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape, np.float32))


def small_flow(preset, context_dim=0, angles=(), vectors=None):
    vectors = ARCHITECTURES[preset].takes_vectors if vectors is None else vectors
    sizes = small_sizes(preset)
    if preset == "affine" and context_dim == 0:
        sizes = {"rank": 2}
    shape = (24,) if vectors else (1, 8, 8)
    torch.manual_seed(0)
    return RealNVP(shape, context_dim, preset, context_angles=angles, **sizes)


def elements(flow, seed, *shape):
    x = numbers(seed, *shape, *flow.event_shape)
    return 256 * x if len(flow.event_shape) == 3 else 4 * x - 2


def make_dataset(seed=0, classes=5, size=6, context=False, side=8):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (classes, 1, 1, side, side)) // 2
    images = images + rng.integers(0, 128, (classes, size, 1, side, side))
    angles = torch.from_numpy(np.tile(np.arange(size) * 360.0 / size, classes))
    return LabelledImages(
        images=torch.from_numpy(images.reshape(-1, 1, side, side).astype(np.uint8)),
        labels=torch.from_numpy(np.repeat(np.arange(classes), size)),
        class_names=tuple(f"class {index}" for index in range(classes)),
        name="made up",
        split="test",
        context=encode_context([AZIMUTH], {"azimuth": angles}) if context else None,
        context_features=(AZIMUTH,) if context else (),
    )


def small_model(process="gaussian", context_dim=0):
    flow = small_flow("dense", context_dim, vectors=False)
    covariance = 0.1 + 0.8 * numbers(1, flow.dim)
    return Bruno(flow, PROCESSES[process].from_parameters(numbers(2, flow.dim) + 1, covariance))


def flow_of(preset, context_dim=0, angles=()):
    def run(seed):
        flow = small_flow(preset, context_dim, angles)
        context = numbers(seed + 1, 5, context_dim) if context_dim else None
        flow.initialise(elements(flow, seed, 5), context)
        z, log_det = flow(elements(flow, seed + 2, 5), context)
        x, back = flow.inverse(z, context)
        return dict(flow.named_parameters()), dict(flow.named_buffers()), z, log_det, x, back

    return run


for preset in ARCHITECTURES:
    OPERATIONS[f"flow {preset}"] = flow_of(preset)
for preset in ("compact", "lattice", "conditional-paper", "dense"):
    OPERATIONS[f"flow {preset} with angles"] = flow_of(preset, 4, (1,))


def process_of(kind):
    def run(seed):
        process = kind(3)
        scalar = kind.from_parameters(2.0, 0.5, 0.25)
        vector = kind.from_parameters([1.0, 2.0, 3.0], numbers(seed, 3), 0)
        process.set_correlation(numbers(seed, 3))
        z = 3 * numbers(seed + 1, 4, 5, 3)
        evidence = Evidence.of(z)
        torch.manual_seed(seed)
        return [
            [
                dict(each.named_parameters()),
                each.variance,
                each.covariance,
                each.log_prob(z[..., : each.dim]),
                each.predictive_log_prob(z[..., : each.dim]),
            ]
            for each in (process, scalar, vector)
        ] + [
            vector.predictive(evidence).mean,
            vector.predictive(evidence).variance,
            vector.posterior(evidence).mean,
            vector.log_prob_given(z[0], evidence),
            vector.log_prob_given(z[0, :0], evidence),
            vector.sample(evidence, (2,)),
            vector.sample(evidence, (2,), generator_for(seed)),
        ]

    return run


for name, kind in PROCESSES.items():
    OPERATIONS[f"process {name}"] = process_of(kind)


@operation
def evidence(seed):
    z = numbers(seed, 2, 4, 3)
    empty, whole, part = Evidence.empty(3, (2,)), Evidence.of(z), Evidence.of(z[:, :1])
    return empty, whole, Evidence.of(z[:, :0]), empty + whole, whole - part, part.observe(z[:, 1])


def model_of(process):
    def run(seed):
        model = small_model(process)
        x = elements(model.flow, seed, 3, 4)
        predictive = model.condition(x)
        torch.manual_seed(seed)
        return [
            model.log_prob(x),
            model.predictive_log_prob(x),
            model.prior().log_prob(x[0, 0]),
            model.prior().sample(2),
            predictive.log_prob(x[:, 0]),
            predictive.observe(x[:, 1]).forget(x[:, 0]).evidence,
            predictive.sample((2, 3), generator=generator_for(seed)),
            predictive.sample(),
            predictive.support.check(x[:, 0]),
        ]

    return run


for process in PROCESSES:
    OPERATIONS[f"model {process}"] = model_of(process)


@operation
def conditional_model(seed):
    model = small_model(context_dim=2)
    x, context = elements(model.flow, seed, 4), numbers(seed, 4, 2)
    predictive = model.condition(x, context)
    drawn = predictive.sample(3, context[0], generator_for(seed))
    return predictive.log_prob(x[0], context[0]), drawn


def moments_of(process):
    def run(seed):
        flow = RealNVP((1,), preset="affine")
        flow.initialise(numbers(seed, 5, 1))
        predictive = Bruno(flow, PROCESSES[process](1)).condition(numbers(seed + 1, 2, 3, 1))
        return [
            predictive.mean,
            predictive.variance,
            predictive.cdf(numbers(seed, 4, 2, 1)),
            predictive.icdf(numbers(seed, 4, 2).round(decimals=1)),
            predictive.expand((3, 2)).rsample((2,), generator=generator_for(seed)),
        ]

    return run


for process in PROCESSES:
    OPERATIONS[f"moments {process}"] = moments_of(process)


@operation
def save_and_load(seed):
    model = small_model()
    x = elements(model.flow, seed, 3, 4)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, half_precision=True)
        loaded = Bruno.from_pretrained(folder)
        weights = (Path(folder) / "model.safetensors").read_bytes()
    return weights, loaded.state_dict(), loaded.log_prob(x)


@operation
def from_pretrained(seed):
    model = Bruno.from_pretrained("glyphs")
    with torch.no_grad():
        return model.log_prob(elements(model.flow, seed, 2)), dict(model.named_parameters())


@operation
def few_shot_classification(seed):
    model, data = small_model("student_t"), make_dataset(seed)
    classify = few_shot.classify
    return [
        classify(model, data.images[::2], data.labels[::2], data.images[1::2]),
        classify(model, data.images[:2], ["b", "a"], data.images[:0]),
        few_shot_accuracy(model, data, way=3, shot=2, rotations=True, trials=2, contaminants=1),
    ]


@operation
def evaluation(seed):
    model, data = small_model(), make_dataset(seed)
    x = dequantise(data.images[:6], generator_for(seed))
    return [
        likelihood(model, data, set_size=4, importance_samples=2),
        set_anomalies(model, data, set_size=5, n_anomalies=2, sets_per_class=1),
        exchangeability(model, x, 2, generator_for(seed)),
        correlated_dimensions(model.process, [0.1, 0.5]),
        to_png(plot_correlated_dimensions(model.process, points=5)),
    ]


@operation
def evaluation_of_views(seed):
    model, data = small_model(context_dim=2), make_dataset(seed, context=True, size=8)
    return [
        novel_views(model, data, given=(0, 1), targets=2, samples=2, training=data),
        pose(model, data, given=(0, 1)),
        draw_views(model, data, seed),
    ]


@operation
def drawing_sets(seed):
    data, generator = make_dataset(seed), generator_for(seed)
    augmented = dataclasses.replace(data, augmented_images=data.images.flip(-1).unsqueeze(0))
    augmentation = Augmentation(degrees=10, scale=0.1, shear=0.1, translate=1, elastic=1)
    return [
        sample_sets(augmented, 3, 4, generator, rotations=True, augmented_images=True),
        sample_episode(data, 3, 2, 1, generator),
        augment(data.images, augmentation, generator),
        dequantise(data.images, generator),
        vars(data.restrict(("class 3", "class 1"))),
        vars(augmented.joined(dataclasses.replace(data, class_names=tuple("vwxyz")))),
        encode_context([AZIMUTH], {"azimuth": 30.0}),
        generator_for(seed, 1).get_state(),
    ]


@operation
def loading_data(seed):
    digits = load_dataset("digits", "val")
    with tempfile.TemporaryDirectory() as folder:
        for name in "abcdefgh":
            Path(folder, name).mkdir()
            for index in range(2):
                picture = np.random.default_rng(seed + index).integers(0, 256, (9, 9), np.uint8)
                Image.fromarray(picture).save(Path(folder, name, f"{index}.png"))
        mine = load_folder(folder, "train", seed=seed, image_size=8)
    return (
        digits.images,
        digits.labels,
        mine.images,
        mine.labels,
        draw_glyph("g", seed=seed, example=1),
    )


@operation
def training(seed):
    experiment = Experiment(
        seed=seed,
        data=DataConfig("digits"),
        model=ModelConfig(
            filters=(2, 2), dense_units=4, dense_couplings=1, initial_correlation_range=(0.1, 0.9)
        ),
        objective=ObjectiveConfig(shots=(1,), prediction_weight=0.1),
        training=TrainingConfig(
            steps=2,
            sets_per_batch=4,
            images_per_set=4,
            warmup_steps=1,
            validate_every=1,
            validation_batches=1,
            reflections=True,
            augmentation=Augmentation(degrees=5.0),
        ),
    )
    data = make_dataset(seed)
    with tempfile.TemporaryDirectory() as folder:
        run = (experiment, data, data, Path(folder) / "run")
        models = [train(*run, device="cpu", resume=resume) for resume in (False, True)]
    return [model.state_dict() for model in models], training_batch(data, experiment, 0).x


@pytest.fixture(scope="module")
def plain():
    """Results of operations under torch's own defaults, each computed once."""
    results = {}

    def run(name, seed):
        if (name, seed) not in results:
            with defaults(*PLAIN):
                results[name, seed] = OPERATIONS[name](seed)
        return results[name, seed]

    return run


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{other[0]}-{other[1]}")
@pytest.mark.parametrize("name", OPERATIONS)
def test_results_do_not_depend_on_defaults(name, other, plain):
    with defaults(*other):
        assert differences(OPERATIONS[name](0), plain(name, 0)) == []


@fuzz_settings(10)
@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    device=st.sampled_from(sorted({"cpu"} | {device for device, _ in OTHERS})),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    seed=st.integers(0, 2**31 - 1),
)
def test_results_do_not_depend_on_any_defaults(name, device, dtype, seed):
    expected = OPERATIONS[name](seed)
    with defaults(device, dtype):
        assert differences(OPERATIONS[name](seed), expected) == []
