import io
import sys

from bruno import progress
from tests.terminal import Terminal


def run(monkeypatch, stream, patience):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "PATIENCE", patience)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.track([1, 2, 3], "Decoding")) == [1, 2, 3]
    return stream.getvalue()


def test_shows_a_bar_on_a_terminal_when_it_takes_long(monkeypatch, capsys):
    assert "Decoding" in run(monkeypatch, Terminal(), patience=-1)
    assert capsys.readouterr().out == ""


def test_is_silent_when_quick_or_not_on_a_terminal(monkeypatch):
    assert "Decoding" not in run(monkeypatch, Terminal(), patience=60)
    assert run(monkeypatch, io.StringIO(), patience=-1) == ""
