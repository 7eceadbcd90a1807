"""The report in a real browser: what it draws, what it asks for, and whether a phone and a keyboard suffice."""

import base64
import json
import os
import re
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from run_directories import DEMO, MadeRun, make_run, make_runs
from unplateau.report import write_report

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
HOSTILE = "<img src=http://example.invalid/x.png onerror=alert(1)> & very-long-name-without-a-break_" + "x" * 60

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and DRIVER):
        reason = "needs Chromium and chromedriver"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return write_report(make_runs(folder, DEMO), folder / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    runs = [*make_runs(folder, [MadeRun(), MadeRun(HOSTILE, falls=600, command=HOSTILE)])]
    return write_report(runs, folder / "report.html")


def opened(browser, page, width=1200, height=900):
    """The page at this width; everything the browser logged and asked for meanwhile."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return browser.get_log("browser"), asked


@pytest.mark.parametrize("name", ["demo", "hostile"])
def test_nothing_to_complain_about_and_nothing_asked_for(browser, name, request):
    logged, asked = opened(browser, request.getfixturevalue(name))
    assert logged == []
    assert asked
    assert all(address.startswith(("file:", "data:")) for address in asked)


def test_every_figure_is_drawn(browser, demo):
    opened(browser, demo)
    figures = browser.find_elements(By.CSS_SELECTOR, "svg.panel")
    assert len(figures) == 2 + 4 * 9
    for figure in figures:
        assert 300 <= figure.rect["width"] <= 480
        assert figure.rect["height"] > 150
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg.panel path, svg.panel image')]"
        ".filter(e => !e.closest('defs')).map(e => { const b = e.getBBox(); return Math.max(b.width, b.height) })"
    )
    assert len(boxes) > 100
    assert min(boxes) > 0


def test_every_picture_is_shown(browser, demo):
    opened(browser, demo)
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 32
    assert min(widths) > 0


def test_every_picture_has_a_name(browser, demo):
    opened(browser, demo)
    names = browser.execute_script(
        "return [...document.querySelectorAll('img, svg')]"
        ".map(e => e.getAttribute('alt') || e.getAttribute('aria-label'))"
    )
    assert names
    assert all(names)


@pytest.mark.parametrize("name", ["demo", "hostile"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(browser, name, width, request):
    opened(browser, request.getfixturevalue(name), width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return window.innerWidth") == width


@pytest.mark.parametrize("width", [360, 1200])
def test_no_label_of_a_figure_leaves_the_screen(browser, demo, width):
    opened(browser, demo, width)
    edges = browser.execute_script(
        "return [...document.querySelectorAll('svg.panel text')].map(t => {"
        "const b = t.getBoundingClientRect(); return [b.left, b.right, b.height] })"
    )
    assert min(left for left, _, _ in edges) >= 0
    assert max(right for _, right, _ in edges) <= width
    assert min(height for _, _, height in edges) >= 9  # legible


def test_the_keyboard_reaches_what_moves(browser, demo):
    opened(browser, demo, 360)
    reached = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        tag = browser.execute_script("const e = document.activeElement; return e.className || e.tagName.toLowerCase()")
        if tag in ("body", "html") or (reached and tag == "skip"):
            break
        reached.append(tag)
    assert reached[0] == "skip"
    assert reached.count("scroll") == 2
    assert reached.count("scroll brief") == 1
    assert reached.count("scroll prompt") == 2
    assert reached.count("summary") == 5
    assert browser.find_element(By.CSS_SELECTOR, ".skip").get_attribute("href").endswith("#main")


def test_details_open_with_the_keyboard(browser, demo):
    opened(browser, demo)
    summary = browser.find_element(By.TAG_NAME, "summary")
    summary.send_keys(Keys.ENTER)
    assert browser.find_element(By.TAG_NAME, "details").get_attribute("open") is not None


def test_dark_and_light_are_both_readable(browser, demo):
    """Text against its background: WCAG asks for a contrast of 4.5."""
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        opened(browser, demo)
        paper = luminance(browser, "return getComputedStyle(document.body).backgroundColor")
        for selector in ("p", "caption", "small", "th", ".right", ".wrong", "svg text"):
            script = f"return getComputedStyle(document.querySelector('{selector}'))"
            ink = luminance(browser, script + (".fill" if "svg" in selector else ".color"))
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, (scheme, selector)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(browser, script):
    """Relative luminance of the colour that a script returns as rgb(...)."""
    text = browser.execute_script(script)
    channels = [int(part) / 255 for part in text[text.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_single_stuck_run_prints(browser, tmp_path):
    page = write_report(make_run(tmp_path, MadeRun()), tmp_path / "report.html")
    opened(browser, page)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})
    assert len(printed["data"]) > 10_000


WHERE_PRINTED = """
document.querySelectorAll('h2, h3, p, dt, dd, figure, table').forEach((e, place) => {
  e.id = e.id || `place-${place}`;
  document.body.append(Object.assign(document.createElement('a'), {href: `#${e.id}`, textContent: e.id}));
});
const first = e => e.matches('dl, div') ? first(e.firstElementChild) : e;
return [...document.querySelectorAll('h2:not(.quiet), h3, h2:not(.quiet) + p, h3 + p, dt')]
  .filter(e => e.nextElementSibling && e.getClientRects().length)
  .map(e => [e.id, first(e.nextElementSibling).id, e.textContent.slice(0, 40)]);
"""
"""Gives what may stand alone, and what must follow it on its page, a place in the PDF: what a link leads to has one."""


@pytest.mark.parametrize("n_strategies", [1, 4])
def test_no_heading_stands_alone_at_the_foot_of_a_printed_page(browser, n_strategies, tmp_path):
    names = [*dict.fromkeys(made.strategy for made in DEMO)][:n_strategies]
    runs = make_runs(tmp_path, [made for made in DEMO if made.strategy in names])
    opened(browser, write_report(runs, tmp_path / "report.html"))
    pairs = browser.execute_script(WHERE_PRINTED)
    assert len(pairs) > 20
    for inches in (8.5, 11.7, 13):
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": inches})
        places = re.findall(rb"/([\w-]+) \[(\d+) 0 R /XYZ", base64.b64decode(printed["data"]))
        page = {name.decode(): number for name, number in places}
        assert len(set(page.values())) > 3
        assert not [text for one, next_, text in pairs if page[one] != page[next_]], f"paper of {inches} inches"


TEXT_AT = """
const pictures = [...document.querySelectorAll('svg.panel')];
const picture = pictures.find(e => e.getAttribute('aria-label').startsWith(arguments[0]));
picture.scrollIntoView({block: 'center'});
const box = picture.querySelector('g[id$="axes_1"] > g path').getBoundingClientRect();
const [x, y] = [box.left + arguments[1] * box.width, box.bottom - arguments[2] * box.height];
const title = document.elementFromPoint(x, y).querySelector(':scope > title');
return title && title.textContent
"""


@pytest.mark.parametrize("width", [390, 1200])
def test_a_mouse_finds_the_values(browser, demo, width):
    opened(browser, demo, width)

    def text_at(picture, along, up):
        return browser.execute_script(TEXT_AT, picture, along, up)

    assert text_at("Loss of plain", 0.5, 0.8).startswith("plain, seed 0, step 1,")
    assert "\nplain, seed 1, step 1," in text_at("Loss of plain", 0.5, 0.8)
    assert "seed 0: plateau from step" in text_at("Loss of plain", 0.5, 0.1)
    assert text_at("Progress of all strategies against step", 0.5, 0.5) is None
    assert "mixed, seed 0, step 1,030: progress 0.9" in text_at("Progress of all strategies against step", 0.5, 0.88)
    assert text_at("Weights score of every layer of mixed", 0.5, 0.9).startswith("block 3, step 1,000: weights score")


def test_titles_do_not_flood_a_screen_reader(browser, demo):
    opened(browser, demo)
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = [node.get("name", {}).get("value", "") for node in nodes if not node.get("ignored")]
    assert any(name.startswith("Loss of plain") for name in names)
    assert not any(name.startswith("plain, seed 0, step") for name in names)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("name", ["demo", "hostile"])
def test_the_opening_fits(browser, name, width, request):
    opened(browser, request.getfixturevalue(name), width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.lead, .numbers > div, .numbers dd, .brief')].map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.right, e.scrollWidth - e.clientWidth] })"
    )
    assert len(boxes) == 1 + 3 + 3 + 1
    assert min(left for left, _, _ in boxes) >= 0
    assert max(right for _, right, _ in boxes) <= width
    assert max(over for _, _, over in boxes) <= 0
    tops = browser.execute_script(
        "return [...document.querySelectorAll('.numbers dd')].map(e => e.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == (1 if width == 1200 else 3)
