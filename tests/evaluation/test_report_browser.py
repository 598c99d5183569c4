"""The page as a person meets it, in a headless Chromium: opened from disk, clicked through, resized, printed."""

import pytest

from seglab.evaluation.metrics import groups
from seglab.evaluation.report import write_report
from tests.evaluation.chromium import Browser, find_chromium
from tests.evaluation.reports import TASK, evaluation_of, many_images, report_arguments

CHROMIUM = find_chromium()

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install Debian's `chromium`, or name one in CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report with everything in it, and names that attack it."""
    images = many_images()
    evaluation = evaluation_of(images, outlines=True, people=True, failures=[("<b>bad", "truncated")])
    path = tmp_path_factory.mktemp("report") / "report #1 100%.html"
    write_report(path, evaluation, **report_arguments(images, evaluation))
    return path


@pytest.fixture
def page(browser, path):
    """The report, freshly opened; whatever a test does, the page asks for nothing and complains about nothing."""
    browser.size(1200, 900)
    browser.media()
    browser.open(path)
    yield browser
    requests = [event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert browser.seen("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    assert browser.seen("Page.frameRequestedNavigation", "Page.windowOpen", "Page.javascriptDialogOpening") == []


CARD = "document.querySelectorAll('.card')[0]"
VISIBLE = (
    f"[...{CARD}.querySelectorAll('.layer')].filter(l => l.style.visibility === 'visible').map(l => l.dataset.layer)"
)
SHOWN = "[...document.querySelectorAll('.card')].filter(card => !card.hidden)"


def choose(page, id, value):
    page.js(f"{{const s = document.getElementById('{id}'); s.value = '{value}'; s.dispatchEvent(new Event('change'))}}")


def tapped(page, selector):
    """Click where an element is, as a finger would."""
    x, y = page.js(
        f"(() => {{const e = {selector}; e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
        " return [r.x + r.width / 2, r.y + r.height / 2]})()"
    )
    page.mouse("mousePressed", x, y)
    page.mouse("mouseReleased", x, y)


def test_names_do_nothing(page):
    assert page.js("window.hacked === undefined")
    assert page.js("document.querySelectorAll('script').length") == 2
    assert page.js("document.title") == "</title><script>window.hacked=8</script> & more"
    names = page.js("[...document.querySelectorAll('.card h3')].map(h => h.textContent)")
    assert "</script><script>window.hacked=2</script>" in names
    assert page.js("[...document.querySelector('#with').options].map(o => o.textContent)") == [
        "all classes",
        *groups(TASK),
    ]


def test_the_policy_is_in_force(browser, path):
    """What gets in somehow is not run, and nothing is loaded."""
    browser.open(path)
    browser.js(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=9\">');"
        "const s = document.createElement('script'); s.textContent = 'window.hacked=10'; document.body.append(s);"
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\" id=styled>x</p>')"
    )
    browser.js("new Promise(resolve => setTimeout(resolve, 200))")
    assert browser.js("window.hacked === undefined")
    assert browser.js("getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"
    complaints = [event["entry"]["text"] for event in browser.seen("Log.entryAdded")]
    assert len(complaints) >= 3
    assert all("Content Security Policy" in complaint for complaint in complaints)


def test_every_picture_is_shown(page):
    assert page.js("document.images.length") == 4 * 36
    assert page.js("Promise.all([...document.images].map(i => i.decode())).then(() => true)")
    assert page.js("Math.min(...[...document.images].map(i => i.naturalWidth))") >= 8


def test_measures_are_switched(page):
    visible = "[...document.querySelectorAll('#classes .panel')].map(p => getComputedStyle(p).display !== 'none')"
    assert page.js(visible) == [True] + 5 * [False]
    tapped(page, "document.querySelector('label[for=measure-2]')")
    assert page.js(visible) == [False, False, True, False, False, False]
    assert page.js("document.querySelector('#measure-2').checked")


def test_matrix_is_switched_by_keyboard(page):
    page.js("document.getElementById('matrix-0').focus()")
    page.key("ArrowRight", 39)
    assert page.js("document.activeElement.id") == "matrix-1"
    assert page.js("getComputedStyle(document.querySelector('#confusion .panel1')).display") == "block"
    assert page.js("getComputedStyle(document.querySelector('#confusion .panel0')).display") == "none"
    outline = "getComputedStyle(document.querySelector('label[for=matrix-1]')).outlineStyle"
    assert page.js(outline) == "solid"


def test_slider_by_keyboard(page):
    slider = f"{CARD}.querySelector('input')"
    page.js(f"{slider}.focus()")
    assert page.js(VISIBLE) == ["photo", "prediction"]
    page.key("Home", 36)
    assert page.js(VISIBLE) == ["photo"]
    for _ in range(10):
        page.key("ArrowRight", 39)
    assert page.js(f"{slider}.value") == "0.5"
    assert page.js(VISIBLE) == ["photo", "truth"]
    assert page.js(f"{CARD}.querySelector('.truth').style.clipPath") == "inset(0px 50% 0px 0px)"
    assert page.js(f"{slider}.getAttribute('aria-valuetext')") == "photo, truth"
    pressed = f"[...{CARD}.querySelectorAll('[aria-pressed=true]')].map(b => b.textContent)"
    assert page.js(pressed) == []
    page.key("End", 35)
    assert page.js(VISIBLE) == ["photo", "errors"]
    assert page.js(pressed) == ["errors"]


def test_stops_and_all_pictures(page):
    tapped(page, f"{CARD}.querySelectorAll('.slider button')[1]")
    assert page.js(VISIBLE) == ["photo", "truth"]
    tapped(page, "document.querySelector('[data-every=errors]')")
    assert page.js("[...document.querySelectorAll('.slider input')].every(s => s.value === '3')")


def test_drag_and_tap_on_the_picture(page):
    stage = f"{CARD}.querySelector('.stage')"
    x, y, width = page.js(
        f"(() => {{{stage}.scrollIntoView({{block: 'center'}}); const r = {stage}.getBoundingClientRect();"
        " return [r.x, r.y + r.height / 2, r.width]})()"
    )
    page.js(f"{CARD}.querySelectorAll('.slider button')[1].click()")
    page.mouse("mousePressed", x + 5, y)
    page.mouse("mouseMoved", x + 5 + width / 4, y)
    page.mouse("mouseReleased", x + 5 + width / 4, y)
    assert float(page.js(f"{CARD}.querySelector('input').value")) == pytest.approx(1.25, abs=0.05)
    assert page.js(VISIBLE) == ["photo", "truth", "prediction"]
    assert page.js(f"[...{CARD}.querySelectorAll('.tag')].map(t => t.textContent)") == ["prediction", "truth"]
    page.mouse("mousePressed", x + 20, y)
    page.mouse("mouseReleased", x + 20, y)
    assert page.js(VISIBLE) == ["photo", "prediction"]


def test_filter_and_sort(page):
    tally = "document.querySelector('.tally').textContent"
    mious = f"{SHOWN}.map(card => Number(card.querySelector('.words b').textContent))"
    assert page.js(tally) == "36 of 36 pictures"
    choose(page, "show", 2)
    assert page.js(f"{SHOWN}.map(card => card.querySelector('.group').textContent)") == 12 * ["best"]
    choose(page, "show", "")
    choose(page, "sort", "low")
    assert page.js(mious) == sorted(page.js(mious))
    choose(page, "sort", "high")
    assert page.js(mious) == sorted(page.js(mious), reverse=True)
    choose(page, "with", groups(TASK).index("c"))
    asked = page.js(f"{SHOWN}.map(card => card.querySelector('.asked').textContent)")
    assert all(text.startswith(" · c 0.") or text == " · c 1.000" for text in asked)
    values = [float(text.split()[-1]) for text in asked]
    assert values == sorted(values, reverse=True)
    assert len(values) == 36
    choose(page, "sort", "name")
    names = page.js(f"{SHOWN}.map(card => card.querySelector('h3').textContent)")
    assert names.index("image 10") < names.index("image 20") < names.index("image 41")


def test_a_class_that_no_image_has(page):
    choose(page, "with", groups(TASK).index("never"))
    assert page.js(f"{SHOWN}.length") == 0
    assert page.js("document.querySelector('.tally').textContent") == "0 of 36 pictures"
    assert page.js("!document.querySelector('.empty').hidden")


def test_labels_become_clearer(page):
    opacity = f"getComputedStyle({CARD}.querySelector('.prediction img')).opacity"
    assert page.js(opacity) == "0.65"
    page.js("{const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'))}")
    assert page.js(opacity) == "1"


def test_spread_of_a_class(page):
    facts = page.js("JSON.parse(document.getElementById('facts').textContent).histogram")
    row = groups(TASK).index("c") + 1
    choose(page, "spread-of", row)
    options = page.js("[...document.getElementById('spread-of').options].map(o => o.textContent)")
    assert options == ["mIoU", *(f"IoU of {name}" for name in groups(TASK))]
    counts, undefined, mean, median = facts["of"][row]
    heights = page.js("[...document.querySelectorAll('.bin')].map(b => Number(b.getAttribute('height')))")
    assert heights == pytest.approx([136 * num / max(counts) for num in counts])
    assert page.js("document.querySelector('.most').textContent") == str(max(counts))
    assert page.js("[...document.querySelectorAll('#spread .count')].map(c => Number(c.textContent))") == counts
    words = page.js("document.getElementById('spread-words').textContent")
    assert words == f"{45 - undefined} images: median {median:.4f}, mean {mean:.4f}"
    never = groups(TASK).index("never") + 1
    choose(page, "spread-of", never)
    assert "0 images: median –, mean –; 45 without it" in page.js("document.getElementById('spread-words').textContent")
    assert page.js("document.querySelector('.median').getAttribute('visibility')") == "hidden"


CONTRAST = """
(() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith('color(') ? 1 : 255;
    return [numbers.slice(0, 3).map((v) => v / scale), numbers.length > 3 ? numbers[3] : 1];
  };
  const luminance = (rgb) => rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const [rgb, alpha] = parse(getComputedStyle(e).backgroundColor);
      if (alpha === 1) return rgb;
    }
    return [1, 1, 1];
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest('.stage, script, .unseen') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const ink = luminance(parse(element.closest('svg') ? style.fill : style.color)[0]);
    const paper = luminance(behind(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([ratio, element.className.baseVal ?? element.className, element.textContent.slice(0, 30)]);
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_readable(page, scheme):
    page.media(scheme=scheme)
    dark = page.js("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 25)"
    assert dark == (scheme == "dark")
    found = page.js(CONTRAST)
    assert len(found) > 300
    assert any("right" in kind for _, kind, _ in found)
    assert [entry for entry in found if entry[0] < 4.4] == []


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_sticks_out(page, width):
    page.size(width, 740, mobile=width == 360)
    assert page.js("document.documentElement.scrollWidth") <= width
    outside = page.js(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.wide, .stage, .unseen'))"
        ".filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []
    assert page.js("parseFloat(getComputedStyle(document.querySelector('.heat td.right10, .heat td')).fontSize)") >= 11


def test_a_thumb_can_use_it(page):
    page.size(360, 740, mobile=True)
    targets = "[...document.querySelectorAll('select, .stops button, .pick + label')]"
    assert page.js(f"Math.min(...{targets}.map(e => e.getBoundingClientRect().height))") >= 28


def test_print(page):
    page.media(scheme="dark", media="print")
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = "[...document.querySelectorAll('{}')].some(e => getComputedStyle(e).display !== 'none')"
    for selector in ("nav", ".controls", ".slider", ".tag", ".edge"):
        assert not page.js(shown.format(selector))
    assert page.js(f"[...{CARD}.querySelectorAll('.layer')].every(l => getComputedStyle(l).visibility === 'visible')")
    assert page.js(f"[...{CARD}.querySelectorAll('.layer')].every(l => getComputedStyle(l).clipPath === 'none')")
    tops = page.js(f"[...{CARD}.querySelectorAll('.layer')].map(l => Math.round(l.getBoundingClientRect().top))")
    assert len(set(tops)) == 1
    assert min(ratio for ratio, *_ in page.js(CONTRAST)) > 4.4
    printed = page.pdf()
    assert page.js("[...document.querySelectorAll('#configuration details')].every(d => d.open)")
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000


def test_without_scripts_the_numbers_are_there(browser, path):
    browser.size(1200, 900)
    browser.media()
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(path)
        assert browser.js("!document.documentElement.classList.contains('js')")
        controls = "[...document.querySelectorAll('.controls, .slider, .scripted')]"
        assert browser.js(f"{controls}.every(e => getComputedStyle(e).display === 'none')")
        boxes = f"[...{CARD}.querySelectorAll('.layer')].map(l => l.getBoundingClientRect())"
        assert browser.js(f"{boxes}.map(r => r.width > 50 && r.height > 20)") == 4 * [True]
        tapped(browser, "document.querySelector('label[for=measure-1]')")
        assert browser.js("getComputedStyle(document.querySelector('#classes .panel1')).display") == "block"
        assert browser.js("document.querySelectorAll('#classes table tbody tr').length") == len(groups(TASK))
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_masks_alone(browser, tmp_path):
    """Without photos the slider has three stops."""
    from seglab.evaluation.report import Pictures

    images = {name: Pictures(one.truth, one.prediction) for name, one in many_images(num=3).items()}
    write_report(tmp_path / "r.html", evaluation_of(images), pictures=images.get, configuration={}, title="t")
    browser.open(tmp_path / "r.html")
    stops = f"[...{CARD}.querySelectorAll('.slider button')].map(b => b.textContent)"
    assert browser.js(stops) == ["truth", "prediction", "errors"]
    assert browser.js(VISIBLE) == ["prediction"]
    tapped(browser, "document.querySelector('[data-every=truth]')")
    assert browser.js(VISIBLE) == ["truth"]
    tapped(browser, "document.querySelector('[data-every=photo]')")
    assert browser.js(VISIBLE) == ["truth"]
    assert browser.seen("Runtime.exceptionThrown", "Log.entryAdded") == []
