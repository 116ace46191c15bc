"""The page in a browser: where Chromium is present."""

from typing import Any

import pytest

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.page.render import render
from tests.report import chromium
from tests.report.sample import bare_sample, changed, sample

pytestmark = pytest.mark.skipif(chromium.browser() is None, reason=chromium.MISSING)

# What stands wider than the page although nothing around it scrolls.
OVERFLOW = """
const wide = document.documentElement.scrollWidth - innerWidth;
const scrolled = e => e && (getComputedStyle(e).overflowX === 'auto' || scrolled(e.parentElement));
const culprits = [...document.querySelectorAll('body *')].filter(
  e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolled(e) && !e.closest('.skip, .visually-hidden'));
return {wide, culprits: culprits.map(e => e.outerHTML.slice(0, 200))};
"""
CHARTS = """
document.querySelectorAll('details').forEach(e => { e.open = true; });
return [...document.querySelectorAll('svg.chart')].map(chart => {
  const shapes = [...chart.querySelectorAll('path, use')].map(e => e.getBoundingClientRect());
  const box = chart.getBoundingClientRect();
  return {
    name: chart.querySelector('title').textContent,
    width: box.width, height: box.height,
    drawn: shapes.filter(b => b.width + b.height > 2).length,
    outside: [...chart.querySelectorAll('text')].filter(e => {
      const b = e.getBoundingClientRect();
      return b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2;
    }).map(e => e.textContent),
    overlapping: [...chart.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]).flatMap(
      ([text, a], i, all) => all.slice(i + 1).filter(([_, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3).map(([other]) => [text, other])),
  };
});
"""
# WCAG 2.2, 1.4.3 and 1.4.11: relative luminance, and the ratio of two.
CONTRAST = """
const channels = colour => {
  const canvas = document.createElement('canvas').getContext('2d');
  canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const luminance = colour => channels(colour).slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
};
const behind = e => {
  const colour = getComputedStyle(e).backgroundColor;
  return channels(colour)[3] === 255 ? colour : e.parentElement ? behind(e.parentElement) : '#fff';
};
document.querySelectorAll('details').forEach(e => { e.open = true; });
const texts = [...document.querySelectorAll('body *')].filter(
  e => !e.closest('svg, .visually-hidden, .skip') &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
const drawn = [...document.querySelectorAll('svg text')];
const probe = document.body.appendChild(document.createElement('i'));
const variable = name => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
const series = [1, 2, 3, 4, 5, 6, 7, 8].map(i => variable(`series-${i}`));
const paper = variable('paper');
return {
  text: texts.map(e => [ratio(getComputedStyle(e).color, behind(e)), e.textContent.trim().slice(0, 60)]),
  drawn: drawn.map(e => [ratio(getComputedStyle(e).fill, paper), e.textContent])
    .filter(([found, words]) => found > 1.05 || !words),
  series: series.map(colour => ratio(colour, paper)),
};
"""
COLOURS = """
const box = document.querySelector('svg.chart path');
return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
        ...[...document.querySelectorAll('svg.chart text, svg.chart path')]
          .filter(e => !e.closest('defs')).slice(0, 40).map(e => getComputedStyle(e).fill)];
"""


@pytest.fixture(scope="module")
def long_html() -> str:
    """Many gates, runtimes and batch sizes, and names that are long."""
    record = sample(
        blocks=30,
        runtimes=[f"runtime-with-a-long-name-{i}" for i in range(8)],
        batches=(1, 2, 4),
        precisions=("float32", "float16"),
        rounds=6,
        channels=16,
        side=7,
        shapes=[(n, 3, 224, 224) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)],
        stem="a_checkpoint_with_a_name_that_is_longer_than_a_telephone_is_wide_epoch_0300",
    )
    return render(record)


def test_it_renders_without_a_word_in_the_console(full_html: str) -> None:
    found = chromium.dom(full_html)
    assert "model.pt" in found
    assert found.count("<svg") == full_html.count("<svg")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("which", ["full_html", "long_html"])
def test_the_page_never_scrolls_sideways(which: str, width: int, request: pytest.FixtureRequest) -> None:
    found = chromium.measure(request.getfixturevalue(which), OVERFLOW, width=width)
    assert found == {"wide": 0, "culprits": []}


@pytest.mark.parametrize("which", ["full_html", "long_html"])
def test_every_chart_is_drawn_and_all_its_text_is_visible(which: str, request: pytest.FixtureRequest) -> None:
    charts: list[dict[str, Any]] = chromium.measure(request.getfixturevalue(which), CHARTS)
    assert len(charts) > 5
    for chart in charts:
        assert chart["width"] > 300, chart
        assert chart["height"] > 20, chart
        assert chart["drawn"] >= 3, chart
        assert chart["outside"] == [], chart
        assert chart["overlapping"] == [], chart


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(dark: bool, full_html: str) -> None:
    found = chromium.measure(full_html, CONTRAST, dark=dark)
    assert len(found["text"]) > 100
    assert [entry for entry in found["text"] if entry[0] < 4.5] == []
    assert [entry for entry in found["drawn"] if entry[0] < 4.5] == []
    assert [ratio for ratio in found["series"] if ratio < 3] == []


def test_a_dark_page_has_other_colours_in_its_charts_too(full_html: str) -> None:
    light, dark = (chromium.measure(full_html, COLOURS, dark=preferred) for preferred in (False, True))
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert len(set(light)) > 3
    assert all(a != b for a, b in zip(light, dark, strict=True) if a != "none")


def test_what_is_folded_opens_without_a_script(full_html: str) -> None:
    """By the browser itself: no script is in the page, and none may run."""
    script = """
    const folded = [...document.querySelectorAll('details.data')].find(e => e.checkVisibility());
    const before = folded.querySelector('table').checkVisibility();
    folded.querySelector('summary').click();
    return [before, folded.querySelector('table').checkVisibility()];
    """
    assert chromium.measure(full_html, script) == [False, True]


def test_a_script_would_not_run(full_html: str) -> None:
    """Should a name ever slip through unescaped, the page's own policy stops it."""
    hostile = full_html.replace("</body>", "<script>document.title = 'taken over'</script></body>")
    done = chromium.run(hostile, "--dump-dom")
    assert "<title>taken over" not in done.stdout
    assert "Content Security Policy" in done.stderr


def test_what_the_keyboard_reaches_is_seen(full_html: str) -> None:
    script = """
    document.querySelectorAll('details').forEach(e => { e.open = true; });
    const stops = [...document.querySelectorAll('a, summary, [tabindex="0"]')];
    return stops.map(e => { e.focus({focusVisible: true}); const s = getComputedStyle(e);
      return [document.activeElement === e, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; });
    """
    found = chromium.measure(full_html, script)
    assert len(found) > 20
    assert all(reached and seen for reached, seen in found)


def test_print_hides_what_paper_can_not_open(full_html: str) -> None:
    printed = full_html.replace("@media print", "@media all")
    script = """
    const seen = e => e.checkVisibility();
    return [[...document.querySelectorAll('details.data, nav')].some(seen),
            [...document.querySelectorAll('details.more table')].filter(e => !e.closest('.data')).every(seen)];
    """
    assert chromium.measure(printed, script) == [False, True]


def test_a_bare_record_renders_as_well() -> None:
    assert chromium.measure(render(bare_sample()), OVERFLOW, width=360) == {"wide": 0, "culprits": []}


def test_a_hostile_name_runs_nothing(full_record: Report) -> None:
    record = changed(full_record, {"model/checkpoint": "<img src=x onerror=console.error(1)>.pt"})
    assert "<img src=x" not in render(record)
    assert "&lt;img src=x" in chromium.dom(render(record))
