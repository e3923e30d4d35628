"""Charts are well-formed, say what they draw, and put things where the numbers say."""

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.evals import charts, svg
from tutelage.evals.charts import Dot, Mark, Series

NS = {"s": "http://www.w3.org/2000/svg"}


def parse(figure: svg.Figure) -> ET.Element:
    return ET.fromstring(figure.standalone())


def line_figure(**extra) -> svg.Figure:
    return charts.line_chart([Series("one", [0, 1, 2], [0.0, 5.0, 10.0], "k-ppo", [-1, 4, 9], [1, 6, 11])], title="T", desc="D",
                             x_label="x", y_label="y", **extra)


@settings(max_examples=200)
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e6))
def test_ticks_are_round_evenly_spaced_and_inside(low, span):
    ticks = svg.ticks(low, low + span)
    assert 1 <= len(ticks) <= 10
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)
    steps = {round((b - a) / span, 6) for a, b in zip(ticks, ticks[1:], strict=False)}
    assert len(steps) <= 1 or max(steps) - min(steps) < 1e-4


def test_tick_labels_share_their_decimals():
    assert svg.tick_labels([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert svg.tick_labels([-1000.0, 0.0]) == ["−1,000", "0"]


@pytest.mark.parametrize(("value", "shown"), [(0.0799, "0.080"), (9.8, "9.80"), (-1.3, "−1.30"), (1234.5, "1,234"), (0, "0"),
                                              (math.nan, "undefined"), (math.inf, "undefined"), (None, "undefined"), (2.5e-5, "2.5e−5")])
def test_numbers_for_people(value, shown):
    assert svg.number(value) == shown


def test_numbers_that_belong_together_share_their_decimals():
    assert svg.numbers([9.8, 9.59, 10.5]) == ["9.8", "9.6", "10.5"]


@pytest.mark.parametrize(("seconds", "shown"), [(0.42, "0.42 s"), (41, "41 s"), (425, "7 min 05 s"), (59.7, "1 min 00 s"),
                                                (7380, "2 h 03 min")])
def test_durations_for_people(seconds, shown):
    assert svg.duration(seconds) == shown


@settings(max_examples=200)
@given(st.lists(st.floats(0, 200), min_size=1, max_size=8))
def test_labels_are_spread_without_overlap_and_in_order(positions):
    placed = svg.spread(positions, 16, 0, 200)
    ordered = [placed[i] for i in sorted(range(len(positions)), key=lambda i: positions[i])]
    assert all(b - a >= 16 - 1e-9 for a, b in zip(ordered, ordered[1:], strict=False))
    assert max(placed) <= 200 and min(placed) >= 200 - 16 * 13


def test_labels_far_apart_stay_where_they_are():
    assert svg.spread([10, 100, 50], 16, 0, 200) == [10, 100, 50]


def test_a_figure_alone_is_a_valid_file_with_title_description_and_both_colour_schemes(tmp_path: Path):
    svg.write_svg(tmp_path / "a.svg", [line_figure(), line_figure()], title="Two", desc="Both")
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert root.find("s:title", NS).text == "Two" and root.find("s:desc", NS).text == "Both"
    assert "prefers-color-scheme:dark" in root.find("s:style", NS).text
    assert len(root.findall(".//s:polyline", NS)) == 2


def test_a_line_goes_through_its_points():
    points = parse(line_figure(include_x=(0.0,))).find(".//s:polyline", NS).get("points").split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in points)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y0 > y2    # up is smaller y


def test_nan_breaks_a_line_and_draws_nothing_there():
    figure = charts.line_chart([Series("a", range(6), [1, 2, math.nan, 3, 4, None], "k-ppo")], title="", desc="", x_label="", y_label="")
    assert len(parse(figure).findall(".//s:polyline", NS)) == 2
    assert "nan" not in figure.body
    assert ("a", "2.00", "undefined", "") in figure.rows


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [2.0, 2.0], [1e-12, 2e-12], [1e12, -1e12]])
def test_charts_survive_whatever_numbers_come(values):
    series = [Series("a", range(len(values)), values, "k-ppo", values, values)]
    for figure in (charts.line_chart(series, title="", desc="", x_label="", y_label="", marks=[Mark(0.0, v, "m") for v in values[:1]]),
                   charts.dot_plot([Dot("d", v, v, math.nan) for v in values], title="", desc="", x_label=""),
                   charts.histogram({"h": values}, {}, title="", desc="", x_label=""),
                   charts.timeline({str(i): abs(v) for i, v in enumerate(values) if v == v}, title="", desc="")):
        body = ET.tostring(parse(figure), encoding="unicode")
        assert not re.search(r'="[^"]*\b(nan|inf)\b', body)


def test_text_in_charts_is_escaped():
    hostile = "<script>alert(1)</script>&"
    figure = charts.dot_plot([Dot(hostile, 1.0, 0.5, 1.5, note=hostile)], title=hostile, desc=hostile, x_label=hostile,
                             rules=((1.0, hostile),))
    assert "<script" not in figure.standalone() and "<script" not in figure.inline("f")
    assert hostile in "".join(parse(figure).itertext())


def test_long_lines_are_smoothed_over_their_raw_course_and_thinned():
    figure = charts.line_chart([Series("a", range(5000), [i % 7 for i in range(5000)], "k-ppo")], title="", desc="", x_label="", y_label="")
    raw, smooth = (p.get("points").split() for p in parse(figure).findall(".//s:polyline", NS))
    assert len(raw) <= 300 and len(smooth) <= 300 and len(figure.rows) <= charts.TABLE_ROWS
    heights = [float(p.split(",")[1]) for p in smooth]
    assert max(heights) - min(heights) < 5                     # the mean of a saw is flat


def test_smoothing_keeps_a_constant_and_a_straight_middle():
    flat = charts._smooth([(i, 3.0) for i in range(100)])
    assert [v for _, v in flat] == pytest.approx([3.0] * 100)
    slope = charts._smooth([(i, 2.0 * i) for i in range(100)])
    assert slope[50][1] == pytest.approx(100.0)


def test_every_model_has_a_colour_and_unknown_ones_differ():
    names = ["sft", "mine", "yours"]
    assert svg.color_of("sft", names) == "k-sft"
    assert svg.color_of("mine", names) != svg.color_of("yours", names)
    assert all(f".{svg.color_of(n, names)}{{" in svg.chart_style() for n in names)


def test_series_colours_stand_out_from_their_paper():
    # WCAG 2: 4.5 to 1 for text.
    def luminance(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for scheme in (0, 1):
        paper = luminance(svg._INK["paper"][scheme])
        for colours in (svg._COLORS | svg._EXTRA_COLORS | {k: v for k, v in svg._INK.items() if k in ("ink", "mute")}).values():
            a, b = sorted((paper, luminance(colours[scheme])))
            assert (b + 0.05) / (a + 0.05) >= 4, colours
