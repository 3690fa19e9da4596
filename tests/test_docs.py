"""The documentation: links, generated tables and the site's navigation."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not {"_build", "api"} & {*page.relative_to(ROOT).parts[1:-1]}]


def anchors(page):
    """Return the anchors of the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_tables_are_those_of_the_results(monkeypatch, capsys):
    script = ROOT / "benchmarks" / "results_tables.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--check"])
    monkeypatch.syspath_prepend(script.parent)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out == "rewritten: nothing\n"


def test_what_a_new_user_looks_for_is_at_most_two_clicks_away():
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in ("own-images", "own-table", "api", "cite"):
        assert f":link: {page}\n" in front
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert "{py:class}`Bruno <bruno.model.Bruno>`" in api
