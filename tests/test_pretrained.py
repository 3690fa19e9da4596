import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save

from bruno import Bruno, CheckpointError, ExchangeableGaussian, RealNVP, UserError
from bruno.pretrained import build
from bruno.training.locate import locate_model
from tests.faults import every_fault
from tests.test_model import draw, make_model


@pytest.fixture
def saved(tmp_path):
    model = make_model("student_t")
    model.save_pretrained(tmp_path / "model", {"note": "made for a test"})
    return model, tmp_path / "model"


def test_saving_and_loading_gives_the_same_densities(saved):
    model, path = saved
    loaded = Bruno.from_pretrained(path)
    x = draw(model.event_shape, 2, 3)
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))
    assert next(loaded.flow.parameters()).dtype == torch.float64
    assert json.loads((path / "config.json").read_text())["metadata"] == {"note": "made for a test"}
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]


def test_context_models_survive_saving(tmp_path):
    model = make_model(context_dim=2)
    model.save_pretrained(tmp_path)
    x, context = draw(model.event_shape, 3), torch.randn(3, 2).double()
    loaded = Bruno.from_pretrained(str(tmp_path))
    assert torch.equal(loaded.log_prob(x, context), model.log_prob(x, context))


def test_half_precision_halves_the_file_and_is_exact_in_itself(tmp_path):
    model = build({"event_shape": [1, 28, 28], "preset": "compact"}, "gaussian")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", half_precision=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.52 * sizes[0]
    loaded = Bruno.from_pretrained(tmp_path / "half")
    assert next(loaded.flow.parameters()).dtype == torch.float32
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-3, atol=1e-7)
    x = 256 * torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(loaded.log_prob(x), model.log_prob(x), rtol=0.01, atol=0)
    # Rounding again changes nothing more.
    loaded.save_pretrained(tmp_path / "again", half_precision=True)
    again, half = (tmp_path / name / "model.safetensors" for name in ("again", "half"))
    assert again.read_bytes() == half.read_bytes()


def test_building_and_loading_leave_the_global_random_state_alone(saved):
    before = torch.get_rng_state()
    Bruno.from_pretrained(saved[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_names_are_those_of_the_package():
    for name in Bruno.pretrained():
        assert isinstance(Bruno.from_pretrained(name), Bruno)
    with pytest.raises(UserError, match=r"expected a directory with config\.json or a pretrained"):
        Bruno.from_pretrained("no-such-model")


def corrupt_weights(path):
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)


def cut_weights(path):
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def edit_config(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))


def exchange_weights(path):
    import hashlib

    weights = save({"something": torch.zeros(3)})
    (path / "model.safetensors").write_bytes(weights)
    edit_config(path, weights_sha256=hashlib.sha256(weights).hexdigest())


def not_safetensors(path):
    import hashlib

    (path / "model.safetensors").write_bytes(b"\x80\x04 not a safetensors header")
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    edit_config(path, weights_sha256=digest)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (corrupt_weights, "SHA-256 differs"),
        (cut_weights, "SHA-256 differs"),
        (exchange_weights, "do not fit the model"),
        (not_safetensors, "cannot be read as safetensors"),
        (lambda p: (p / "model.safetensors").unlink(), "cannot be read as safetensors"),
        (lambda p: (p / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda p: (p / "config.json").write_text("[]"), "not the description of a bruno model"),
        (lambda p: edit_config(p, format_version=99), "expected a format version of 1, 2, got 99"),
        (lambda p: edit_config(p, flow_dtype="object"), "unknown flow_dtype"),
    ],
)
def test_damaged_and_foreign_files_are_refused(saved, damage, message):
    damage(saved[1])
    with pytest.raises(CheckpointError, match=message):
        Bruno.from_pretrained(saved[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process": "poisson"}, "expected one of gaussian, student_t"),
        ({"flow": {"event_shape": [1, 7, 7]}}, "height and width that 2 divides"),
        (
            {"flow": {"event_shape": [1, 4, 4], "colour": 3}},
            "colour: is no size of preset 'compact'",
        ),
    ],
)
def test_descriptions_of_impossible_models_are_refused(saved, changes, message):
    edit_config(saved[1], **changes)
    with pytest.raises(UserError, match=message):
        Bruno.from_pretrained(saved[1])


def test_unknown_process_is_named():
    with pytest.raises(UserError, match="process: expected one of gaussian, student_t"):
        build({"event_shape": [4]}, "cauchy")


def save_numbered(path, number):
    """Save a model whose number its own variance tells."""
    flow = RealNVP((2,), preset="diagonal").double()
    ones = torch.ones(2)
    process = ExchangeableGaussian.from_parameters((1.0 + number) * ones, 0.5 * ones)
    Bruno(flow, process).save_pretrained(path)


def number_of(path):
    return round(float(Bruno.from_pretrained(path).process.variance[0].detach()) - 1)


def test_whatever_fails_the_old_or_the_new_model_is_there(tmp_path):
    path = tmp_path / "model"
    save_numbered(path, 0)
    for number in every_fault(tmp_path, lambda number: save_numbered(path, number)):
        assert number_of(path) in (number - 1, number)
        save_numbered(path, number)
        assert number_of(path) == number
        assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]


def test_threads_save_to_one_path_while_others_load(tmp_path):
    save_numbered(tmp_path, 0)

    def work(number):
        for _ in range(5):
            save_numbered(tmp_path, number)
            assert number_of(tmp_path) in range(8)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_home_directory_can_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save_numbered("~/model", 3)
    assert number_of("~/model") == 3
    assert number_of(tmp_path / "home" / "model") == 3
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_what_could_not_be_loaded_is_not_saved(saved):
    model, path = saved
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    with pytest.raises(UserError, match="metadata: expected what JSON can hold"):
        model.save_pretrained(path, {"file": path})
    with pytest.raises(UserError, match="expected a flow in float32 or float64, got bfloat16"):
        model.bfloat16().save_pretrained(path)
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before


@pytest.mark.parametrize(("old", "preset"), [("linear", "affine"), ("affine", "diagonal")])
def test_presets_of_format_version_1_keep_their_meaning(tmp_path, old, preset):
    model = Bruno(RealNVP((3,), preset=preset).double(), ExchangeableGaussian(3))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["description_sha256"]
    config |= {"format_version": 1, "flow": config["flow"] | {"preset": old}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = Bruno.from_pretrained(tmp_path)
    x = draw((3,), 2, 3)
    assert loaded.flow.preset == preset
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_evaluations_name_a_shipped_model_and_not_where_it_lies(tmp_path):
    assert locate_model(None, "omniglot").name == "omniglot"
    Bruno.from_pretrained("glyphs").save_pretrained(tmp_path / "mine")
    assert locate_model(str(tmp_path / "mine"), None).name == str(tmp_path / "mine")
