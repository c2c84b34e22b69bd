"""Reports as one HTML file: nothing from outside gets in as markup, nothing is loaded."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from medmtl.report.html_figure import inline_figure, inline_png
from medmtl.report.html_markup import Html, tag
from medmtl.report.html_page import Section, interval_cell, notice, page, table

VOID = {"br", "hr", "img", "meta"}


class Reader(HTMLParser):
    """Collects elements, text and attributes, and checks that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"href", "src", "xlink:href"}:
                self.links.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def line() -> Figure:
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="black")
    axes.set_xlabel("a < b & c")
    return figure


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))))
def test_text_comes_out_as_it_went_in(text: str) -> None:
    reader = Reader(tag("p", text, title=text))
    assert reader.elements == ["p"]
    assert reader.text == text


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "1 < 2")) == "<p><b>1 &lt; 2</b></p>"
    assert tag("td", None, class_=None, hidden=True) == "<td hidden></td>"


def test_a_page_nests_and_points_only_into_itself() -> None:
    figures = [inline_figure(line(), name=f"f{n}", alt='a "line"') for n in range(2)]
    content = Html("".join([*figures, inline_png(b"\x89PNG", alt="x"), table(["a"], [["<b>"]])]))
    text = page("A <title>", [Section("one", "One", content)], top=notice("few cases"))
    reader = Reader(text)
    assert not reader.open
    assert "script" not in reader.elements
    assert len(reader.ids) == len(set(reader.ids))
    for link in reader.links:
        assert link.startswith("data:") or link.removeprefix("#") in reader.ids
    assert "A <title>" in reader.text
    assert "<b>" in reader.text


def test_a_figure_takes_the_colours_of_the_page_and_is_the_same_each_time() -> None:
    svg = inline_figure(line(), name="f", alt="a line")
    assert svg == inline_figure(line(), name="f", alt="a line")
    assert "#000000" not in svg
    assert "currentColor" in svg
    assert "a &lt; b &amp; c" in svg
    assert 'aria-label="a line"' in svg


def test_intervals_and_missing_numbers() -> None:
    cell = interval_cell({"value": 0.91234, "ci95": [0.9, 0.92], "n": 3})
    assert Reader(cell).text == "0.912 [0.900, 0.920]"
    assert interval_cell({"value": None, "ci95": None}) == "-"
    assert interval_cell({"value": 1.0, "ci95": None}, digits=1) == "1.0"
    assert "<td>x</td>" in table(["a", "b"], [["x", None]])
    assert '<td class="number">-</td>' in table(["a", "b"], [["x", None]])
