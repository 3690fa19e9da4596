"""Random command lines: each ends in figures, help, or one line that says what is wrong."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from PIL import Image

from bruno import UserError
from bruno.cli import command_line, compare, demo, download, evaluate, export, info, serve
from bruno.training import runs
from tests.fuzzing import fuzz_settings
from tests.test_model import make_model


def options_of(command):
    parser = ArgumentParser(exit_on_error=False)
    command_line._add_command(parser, command)
    return sorted(flag for action in parser._actions for flag in action.option_strings)


OPTIONS = {command: options_of(command) for command in command_line._COMMANDS}
VALUES = [
    *("", " ", "-", "--", "=", "-1", "0", "1", "3", "1.5", "nan", "-inf", "1e400", "true", "null"),
    *("[]", "[1,2]", "[a", "{}", "{a: 1}", "a: b", "*x", "&x [*x]", "!!python/name:os.system", "%"),
    *("~", "~nobody-of-this-name/x", ".", "..", "/dev/null", "nowhere", "file", "file/below.png"),
    *("model", "damaged", "empty", "given", "given/0.png", "given.png", "config.json", "x" * 300),
    *("é.png", "new.png", "new.json", "\udcff.png", "[/red].png", "azimuth=0", "azimuth=", "cpu"),
    *(
        "cuda",
        "glyphs",
        "digits",
        "folder",
        "omniglot",
        "dense",
        "diagonal",
        "student_t",
        "--count",
    ),
]
PLAUSIBLE = {
    "--run": ["model", "damaged", "empty"],
    "--pretrained": ["model", "glyphs", "nowhere"],
    "--out": [
        "new.png",
        "é.png",
        "\udcff.png",
        "[/red].png",
        "new.json",
        "file/x.png",
        "empty",
        "~/x.gif",
    ],
    "--given": ["given", "given.png", "file", "empty"],
    "--count": ["-1", "0", "1", "11"],
    "--latent-scale": ["0", "0.5", "-1", "nan", "inf", "1e308"],
    "--seed": ["0", "-1", "7", "99999999999999999999"],
    "--context": ["azimuth=0"],
    "--device": ["cpu", "cuda", "auto"],
    "--config": ["glyphs", "digits", "given.png", "file", "."],
    "--data.name": ["digits", "folder", "[/x]"],
    "--training.steps": ["0", "1", "10"],
}
words = st.one_of(
    st.sampled_from(VALUES), st.text("ab0-_.=[]{}:,#!&*?|>%@`'\"\\~é☃ \n\t", max_size=6)
)


@st.composite
def command_lines(draw):
    command = draw(st.sampled_from(list(OPTIONS)))
    arguments = []
    common = [option for option in OPTIONS[command] if option in PLAUSIBLE]
    known = st.sampled_from(OPTIONS[command])
    for option in draw(st.lists(st.sampled_from(common) | known if common else known, max_size=4)):
        if draw(st.integers(0, 9)) == 0:
            option = option[: draw(st.integers(0, len(option)))] + draw(words)
        if option in PLAUSIBLE and draw(st.booleans()):
            arguments += [option, draw(st.sampled_from(PLAUSIBLE[option]))]
            continue
        form = draw(st.sampled_from(["one word", "two words", "more words", "alone"]))
        if form == "one word":
            arguments.append(f"{option}={draw(words)}")
        else:
            arguments.append(option)
            number = {"two words": 1, "more words": 3, "alone": 0}[form]
            arguments += [draw(words) for _ in range(number)]
    if draw(st.integers(0, 9)):
        arguments.insert(0, command)
    return arguments


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models and pictures to name, where nothing that takes long is really done."""
    folder = tmp_path_factory.mktemp("place")
    model = make_model(event_shape=(1, 4, 4))
    for name in ("model", "damaged"):
        model.save_pretrained(folder / name)
    (folder / "damaged" / "config.json").write_text('{"format_version": 1}')
    (folder / "empty").mkdir()
    (folder / "file").write_text("text")
    (folder / "given").mkdir()
    for name in ("given/0.png", "given/1.png", "given.png"):
        Image.fromarray(np.full((9, 9), 77, np.uint8)).save(folder / name)

    def refuse(*_arguments, **_named):
        raise UserError("x: not done in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder / "home"))
        for module, name in (
            (runs, "load_dataset"),
            (evaluate, "load_dataset"),
            (info, "load_dataset"),
            (demo, "train_with_display"),
            (download.data, "download"),
            (compare, "load_comparison_data"),
            (export, "export_model"),
            (serve, "create_app"),
            (serve, "_serve_processes"),
        ):
            patch.setattr(module, name, refuse)
        yield folder


@given(command_lines())
@example(["sample", "--run=model", "--out=[/red].png", "--overwrite"])
@example(["sample", "--run=model", "--out=\udcff.png", "--overwrite"])
@example(["sample", "--run=model", "--out=/dev/null.png"])
@example(["classify", "given.png", "--run=model", "--given=empty"])
@example(["classify", "--run=model", "--given", "given", "given.png", "--prepare=scan"])
@fuzz_settings(100)
def test_no_command_line_ends_in_a_traceback(place, arguments):
    output, errors = (io.TextIOWrapper(io.BytesIO(), "ascii", "strict") for _ in range(2))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = command_line.main(arguments)
        except SystemExit as stop:
            code = stop.code
    errors.seek(0)
    text = errors.read()
    assert code in (0, 2)
    if code == 2:
        error = [line for line in text.splitlines() if line.startswith("bruno: error: ")]
        assert len(error) == 1, text
        assert text.splitlines()[-1] == error[0]
