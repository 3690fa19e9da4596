"""The page in a real browser: needs Chromium, and for accessibility axe (``make browser``)."""

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.serving.page import AXE, CHROMIUM, LETTERS, Server, draw, learn

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright (make browser)")

NUMBER = itertools.count(1)
TIMEOUT = 60_000  # milliseconds, on a machine that many share
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 860}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folder of the screenshots; BRUNO_SCREENSHOTS names one to keep."""
    folder = Path(os.environ.get("BRUNO_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser():
    if not shutil.which(CHROMIUM):
        pytest.skip(f"no browser at {CHROMIUM} (apt-get install chromium, or BRUNO_CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, browser):
    server = Server(f"sqlite:///{tmp_path_factory.mktemp('store')}/bruno.db")
    yield server
    server.stop()


sync_api.expect.set_options(timeout=TIMEOUT)


@pytest.fixture
def page(browser, server, request):
    """A page on a project of its own; errors of its scripts fail the test."""
    options = {"viewport": DESKTOP, **getattr(request, "param", {})}
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    refused = "Failed to load resource"  # a refusal, which the page shows
    page.on(
        "console",
        lambda line: line.type == "error" and refused not in line.text and errors.append(line.text),
    )
    name = "letters" if request.node.originalname.startswith("test_draw") else f"p{next(NUMBER)}"
    page.request.post(f"{server.url}/api/v1/projects", data={"name": name})
    page.add_init_script(f"localStorage.setItem('bruno-project', {json.dumps(name)})")
    page.goto(server.url)
    page.locator("body[data-ready]").wait_for()
    page.project = name
    yield page
    context.close()
    assert not errors


def classes(page):
    return page.request.get(f"{page.url}api/v1/projects/{page.project}/classes").json()


def test_draw_learn_classify_sample_forget_reload(page, pictures):
    for name in ("loop", "cross", "hook"):
        learn(page, name, LETTERS[name])
        learn(page, name, LETTERS[name], scale=0.9, shift=0.02)
    before = {one["name"]: one["digest"] for one in classes(page)}
    learn(page, "hook", LETTERS["fork"])

    draw(page, LETTERS["cross"], scale=0.85)
    best = page.locator("#bars .best .name")
    sync_api.expect(best).to_have_text("cross")
    assert page.get_by_text("None of these").is_visible()
    assert float(page.locator("#log-p").inner_text().replace(",", "").replace("−", "-")) < 0
    assert page.locator("#trace-prior").get_attribute("points")

    page.get_by_label("Class", exact=True).nth(1).select_option("cross")
    first = page.get_by_alt_text("Sample 1 of cross")
    cold = first.get_attribute("src")
    page.locator("#scale").fill("0.3")
    sync_api.expect(first).not_to_have_attribute("src", cold)
    page.locator("#samples[aria-busy=false]").wait_for()
    sync_api.expect(page.locator("#samples img")).to_have_count(12)
    page.screenshot(path=pictures / "desktop.png", full_page=True)

    # The newest example of hook was a fork: forgotten, the evidence is as it was before.
    page.get_by_role("button", name="Forget an example of hook").last.click()
    page.get_by_text("bit for bit, that of its other examples").wait_for()
    assert {one["name"]: one["digest"] for one in classes(page)} == before
    page.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_text("Learned again what was forgotten").wait_for()
    assert [one["count"] for one in classes(page)] == [2, 3, 2]

    page.get_by_role("button", name="Forget the class hook").click()
    page.get_by_text("nothing is left of “hook”").wait_for()
    page.reload()
    page.locator("body[data-ready]").wait_for()
    sync_api.expect(page.locator("#classes tr")).to_have_count(2)
    page.get_by_role("button", name="Verify").click()
    page.get_by_text("All 2 classes hold their examples and nothing else").wait_for()


@pytest.mark.parametrize("page", [{"viewport": PHONE, "has_touch": True}], indirect=True)
def test_a_phone(page, pictures):
    learn(page, "cross", LETTERS["cross"])
    draw(page, LETTERS["cross"])
    page.locator("#bars li").first.wait_for()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    small = page.evaluate(
        """[...document.querySelectorAll("button, .button, select")]
        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 32)
        .map((one) => one.textContent)"""
    )
    assert small == []
    page.screenshot(path=pictures / "phone.png", full_page=True)


def test_the_keyboard_alone(page):
    page.locator("#pad").focus()
    for key in ("Space", *["ArrowRight"] * 8, *["ArrowDown"] * 8, "Space"):
        page.keyboard.press(key)
    page.locator("#bars li").first.wait_for()
    page.locator("#class-name").focus()
    page.keyboard.type("corner")
    page.keyboard.press("Enter")
    page.get_by_text("Learned 1 example of “corner”.").wait_for()
    page.get_by_role("button", name="Forget an example of corner").focus()
    page.keyboard.press("Enter")
    page.get_by_text("nothing is left of “corner”").wait_for()


def test_pictures_are_dropped(page, tmp_path):
    from PIL import Image, ImageDraw

    files = []
    for number in range(2):
        image = Image.new("L", (90, 90), 235)
        ImageDraw.Draw(image).line((20, 20, 70, 60 + 9 * number), fill=20, width=5)
        files.append(tmp_path / f"slash-{number}.png")
        image.save(files[-1])
    page.locator("#files").set_input_files(files)
    page.get_by_text("Learned 2 examples of “slash”").wait_for()
    (tmp_path / "not.png").write_bytes(b"no picture at all")
    page.locator("#files").set_input_files(tmp_path / "not.png")
    page.get_by_text("expected a file of PNG").wait_for()


def test_an_object_turns(page, pictures):
    page.get_by_role("tab", name="Turn").click()
    page.get_by_role("button", name="Example object").click()
    page.locator("#stage[aria-busy=false]").wait_for(timeout=60_000)
    front = page.locator("#view").get_attribute("src")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 250, box["y"] + 100, steps=5)
    page.mouse.up()
    assert page.locator("#angle-value").inner_text() == "90°"
    assert page.locator("#view").get_attribute("src") != front
    page.screenshot(path=pictures / "turn.png", full_page=True)


@pytest.mark.parametrize(
    "page",
    [
        {"color_scheme": "light", "viewport": DESKTOP},
        {"color_scheme": "dark", "viewport": PHONE},
    ],
    indirect=True,
    ids=["light", "dark-phone"],
)
def test_accessibility(page, pictures, request):
    if not AXE.is_file():
        pytest.skip(f"no axe at {AXE} (make browser)")
    learn(page, "cross", LETTERS["cross"])
    draw(page, LETTERS["cross"])
    page.locator("#bars li").first.wait_for()
    page.wait_for_timeout(300)  # transitions of bars end
    page.screenshot(path=pictures / f"accessibility-{request.node.callspec.id}.png")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = [page.evaluate("axe.run()")]
    page.get_by_role("button", name="Manage").click()
    found.append(page.evaluate("axe.run()"))
    page.get_by_role("button", name="Close").click()
    page.get_by_role("tab", name="Turn").click()
    found.append(page.evaluate("axe.run()"))
    violations = [
        (one["id"], one["help"], [node["html"] for node in one["nodes"]])
        for run in found
        for one in run["violations"]
    ]
    assert violations == []
    assert all(len(run["passes"]) > 15 for run in found)


def test_the_token_is_asked_for(browser, tmp_path):
    token = "correct-horse-battery"  # noqa: S105
    server = Server(f"sqlite:///{tmp_path}/bruno.db", "--views", "false", BRUNO_TOKEN=token)
    try:
        page = browser.new_page()
        page.goto(server.url)
        page.locator("#token").fill("wrong-wrong-wrong-wrong")
        page.get_by_role("button", name="Enter").click()
        page.locator("#login[open]").wait_for()
        page.locator("#token").fill(token)
        page.get_by_role("button", name="Enter").click()
        page.locator("body[data-ready]").wait_for()
        assert page.get_by_role("tab", name="Turn").is_hidden()
        page.close()
    finally:
        server.stop()
