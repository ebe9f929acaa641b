"""The report of a profile: one page that is whole, well-formed, safe, and always the same."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
import synthetic_study
from PIL import Image, PngImagePlugin
from test_collect import record_for

from brcd_core import records, tables
from brcd_core.study import dependencies, plan, report, runs

EVIL = "<script>alert('x')</script>&<b>\"'--></pre>"
FIGURES = {  # name -> title, caption
    "main": ("How close?", "Tie-aware mAP & more."),
    "bit_means-a-16": ("Which bits?", "16 bits."),
    "bit_means-a-64": ("Which bits?", "64 bits < all."),
    "evil": (f"Title {EVIL}", f"Caption {EVIL}"),
}
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements in order, their texts, the rows of its tables; tags must pair."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.rows = {}  # title of a table -> its rows of texts
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.rows[dict(attrs)["aria-labelledby"]] = self.table = []
        if tag == "tr":
            self.table.append([])
        if tag in ("th", "td"):
            self.table[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open  # in HTML a slash closes nothing
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))
        if "th" in self.open or "td" in self.open:
            self.table[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, *tags):
        return [text for tag, text in self.texts if tag in tags]


def with_an_evil_method():
    """A study in which one method, in all that is told of it, has a hostile name."""
    found = synthetic_study.whole_study(bits=(16,), seeds=(0,))
    text = json.dumps(found).replace('"rkd"', json.dumps(EVIL))
    return [record for record in json.loads(text) if record["kind"] != "weights"]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    for place, (name, (title, caption)) in enumerate(FIGURES.items()):
        told = PngImagePlugin.PngInfo()
        told.add_itxt("Title", title)
        told.add_itxt("Description", caption)
        Image.new("RGB", (30 + place, 20), "white").save(folder / f"{name}.png", pnginfo=told)
    Image.new("RGB", (3, 2)).save(folder / "untold.png")
    return folder


@pytest.fixture(scope="module")
def found():
    return with_an_evil_method()


@pytest.fixture(scope="module")
def wanted():
    return plan.every("smoke")


@pytest.fixture(scope="module")
def text(found, figures, wanted):
    return report.page("quick", f"A study {EVIL}", found, figures, wanted)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_it_is_well_formed_and_every_link_has_a_target(text, page):
    assert text.startswith("<!DOCTYPE html>")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    linked = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    pointing = ("aria-labelledby", "aria-describedby", "data-of")
    named = [attributes[name] for _, attributes in page.elements for name in pointing if name in attributes]
    assert len(linked) > 50 and set(linked) | set(named) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_nothing_comes_from_elsewhere(text, page):
    assert not page.all("link") and not page.all("iframe") and not page.all("object")
    for tag, attributes in page.elements:
        for name in {"src", "href", "srcset", "action", "data", "xlink:href"} & set(attributes):
            assert attributes[name].startswith(("data:", "#")), tag
        assert not [name for name in attributes if name.startswith("on")]
    inside = " ".join(page.text("style", "script"))
    assert not re.search(r"url\(|import|http|//|fetch|XMLHttp", inside)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_hostile_text_stays_text(page):
    assert len(page.all("script")) == 1 and not page.all("b")
    assert "alert" not in "".join(page.text("script"))
    for where in ("title", "h3", "figcaption", "p", "th", "summary", "pre"):
        shown = "".join(page.text(where))
        assert (EVIL in shown.replace("''", "'")) == (where != "title"), where
    assert FIGURES["evil"][1] in [image["alt"] for image in page.all("img")]


def test_every_table_is_in_it_cell_by_cell(page, found):
    built = 0
    for build in tables.TABLES:
        try:
            table = build(found)
        except tables.NoRecords:
            continue
        built += 1
        rows = page.rows[f"table-{table.name}"]
        names, headings = list(table.cells.index.names), list(table.cells.columns)
        body = [
            [*(key if isinstance(key, tuple) else (key,)), *map(str, row)]
            for key, row in zip(table.cells.index, table.cells.itertuples(index=False, name=None))
        ]
        assert rows[-len(body) :] == body
        head = rows[: -len(body)]
        assert head[-1] == [*names, *(h[-1] if isinstance(h, tuple) else h for h in headings)]
        assert len(head) == (2 if isinstance(headings[0], tuple) else 1)
        assert table.caption in page.text("p") and any(t.strip() == table.note for t in page.text("p"))
        link = next(a for a in page.all("a") if a.get("download") == f"{table.name}.csv")
        assert base64.b64decode(link["href"].split(",")[1]).decode() == table.csv()
    assert built >= 10 and len(page.rows) == built + 1


def test_an_upper_heading_spans_its_columns(text, found):
    columns = tables.main_table(found).cells.columns
    row = re.search(r'id="table-main".*?<tr>(.*?)</tr>', text, flags=re.S).group(1)
    told = {name: int(span) for span, name in re.findall(r'colspan="(\d+)">([^<]+)<', row)}
    assert told == Counter(upper for upper, _ in columns)


def test_every_figure_is_in_it_in_the_gallerys_order(page, figures):
    images = page.all("img")
    wanted = ["main", "bit_means-a-16", "bit_means-a-64", "evil"]
    assert [base64.b64decode(image["src"].split(",")[1]) for image in images] == [
        (figures / f"{name}.png").read_bytes() for name in wanted
    ]
    assert [image["alt"] for image in images] == [FIGURES[name][1] for name in wanted]
    assert [(image["width"], image["height"]) for image in images] == [(str(30 + n), "20") for n in range(4)]
    assert page.text("h3").count("Which bits?") == 1


def test_every_run_has_a_row_that_leads_to_its_record(text, page, found):
    ordered = [record for record in tables.in_order(found) if record["kind"] != "comparisons"]
    head, *rows = page.rows["runs"]
    assert len(rows) == len(ordered)
    shown = r'<details id="(record-\d+)"><summary>[^<]*</summary><pre>(.*?)</pre></details>'
    texts = dict(re.findall(shown, text, flags=re.S))
    links = re.findall(r'<th scope="row"><a href="#(record-\d+)">', text)
    for row, record, link in zip(rows, ordered, links, strict=True):
        told = dict(zip(head, row))
        for name in ("student", "method", "bits"):
            assert told[name] == str(record["run"].get(name, ""))
        if record["kind"] == "student":
            assert float(told["map sshp"]) == pytest.approx(record["metrics"]["sshp"]["map"], rel=1e-3)
            assert str(record["metrics"]["sshp"]["map"]) in texts[link]
    assert len(set(links)) == len(links) and len(texts) == len(found)


def test_a_link_to_a_record_opens_what_has_its_name(page):
    opened = {attributes["id"]: tag for tag, attributes in page.elements if "id" in attributes}
    linked = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#record-")}
    assert linked and {opened[name] for name in linked} == {"details"}
    (script,) = page.text("script")
    assert 'addEventListener("hashchange", show)' in script and script.rstrip().endswith("show();")
    assert "record.open = true" in script and "record.hidden = false" in script


def test_planned_runs_without_a_record_are_told(page, wanted, tmp_path):
    def told(page):
        return "".join(page.text("p", "strong", "code"))

    count = len(dependencies.links(wanted))
    assert f"{count} of the {count} runs that the profile plans have no record here" in told(page)
    found = [json.loads(json.dumps(record_for(one))) for one in wanted]
    assert "no record here" not in told(Page(report.page("smoke", "", found, tmp_path, wanted)))
    text = told(Page(report.page("smoke", "", found[1:], tmp_path, wanted)))
    assert f"1 of the {count} runs that the profile plans have no record here" in text
    assert f"make study PROFILE=smoke: {next(iter(dependencies.links(wanted)))}." in text


def test_the_files_inside_are_whole(page, found):
    files = {a["download"]: base64.b64decode(a["href"].split(",")[1]) for a in page.all("a") if "download" in a}
    lines = gzip.decompress(files["records.jsonl.gz"]).decode().splitlines()
    assert sorted(lines) == sorted(json.dumps(record, sort_keys=True) for record in found)
    assert len(list(csv.reader(io.StringIO(files["runs.csv"].decode())))) == len(page.rows["runs"])


def test_the_same_inputs_give_the_same_bytes(text, found, figures, wanted):
    again = report.page("quick", f"A study {EVIL}", list(reversed(found)), figures, wanted)
    assert again == text


def test_without_figures_there_is_no_such_section(found, tmp_path):
    text = report.page("quick", "", found, tmp_path / "none", [])
    assert not Page(text).all("img") and 'id="figures"' not in text


def test_of_a_profile_by_command(wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BRCD_OUTPUT", str(tmp_path))
    run = runs.StudyRun(profile="smoke")
    assert report.main(["smoke"]) == 1 and "make study PROFILE=smoke" in capsys.readouterr().err
    assert report.main(["nothing"]) == 1 and "nothing" in capsys.readouterr().err
    found = [record_for(one) for one in wanted]
    records.save_all(run.results / "records.jsonl", found)
    assert report.main(["smoke"]) == 0
    assert str(run.results / "report.html") in capsys.readouterr().out
    text = (run.results / "report.html").read_text()
    page = Page(text)
    tree = text[text.index('id="dependencies"') : text.index('id="records"')]
    linked = re.findall(r'<li><a href="#(record-\d+)">', tree)  # every run of the plan, and each has its record
    assert sorted(linked) == sorted({f"record-{place}" for place in range(len(found))})
    assert len(page.rows["runs"]) == len(found) + 1


def test_what_a_run_needs_is_in_the_plan_and_comes_before_it(wanted):
    links = dependencies.links(wanted)
    done = set()
    for name, needed in links.items():
        assert set(needed) <= done, name
        done.add(name)
    kinds = {(name.split()[0], one.split()[0]) for name, needed in links.items() for one in needed}
    assert kinds == {
        ("teacher", "features"), ("weights", "teacher"), ("weights", "features"), ("student", "teacher"),
        ("student", "features"), ("student", "weights"), ("redundancy", "teacher"), ("view_counts", "features"),
        ("view_counts", "weights"),
    }  # fmt: skip
    [student] = [name for name in links if re.fullmatch(r"student \S+ \S+ \S+ brcd \d+ 1", name)]
    teacher, small, hash_model, _, bits, _ = student.split()[1:]
    assert links[student][:2] == [f"teacher {teacher} {hash_model} {bits} 1", f"features {small}"]
    assert re.fullmatch(f"weights {teacher} {small} {hash_model} brcd .*", links[student][2])


def test_the_tree_has_each_run_once_below_the_one_it_belongs_to():
    links = {"features a": [], "features b": [], "teacher a": ["features a"]}
    links["student a b"] = ["teacher a", "features b"]
    first, second = dependencies.tree(links)
    assert (first.label, second.label, second.branches) == ("features a", "features b", [])
    [teacher] = first.branches
    [student] = teacher.branches
    assert student == ("student a b", ["features b"], []) and teacher.also == []


def test_the_diagram_leaves_out_what_follows():
    links = {
        "features a": [], "features b": [], "teacher a": ["features a"], "weights a": ["teacher a", "features b"],
        "student x": ["teacher a", "features b", "weights a"], "student y": ["teacher a", "features b"],
        "redundancy a": ["teacher a"],
    }  # fmt: skip
    drawn = dependencies.diagram(links)
    told = ["teacher needs features", "weights needs teacher", "student needs weights", "redundancy needs teacher"]
    assert drawn.told.split("; ") == told
    boxes = {box.kind: box for box in drawn.boxes}
    assert {kind: box.runs for kind, box in boxes.items()} == Counter(name.split()[0] for name in links)
    rows = [["features"], ["teacher"], ["weights", "redundancy"], ["student"]]
    for number, row in enumerate(rows):
        assert {kind for kind, box in boxes.items() if box.y == boxes[rows[number][0]].y} == set(row)
    assert len({box.y for box in drawn.boxes}) == 4 and len({(box.x, box.y) for box in drawn.boxes}) == 5
    width, height = drawn.box
    ends = {(box.x + width // 2, box.y) for box in drawn.boxes} - {(boxes["features"].x + width // 2, 0)}
    assert {(x, y) for _, _, x, y in drawn.arrows} == ends and all(y < to_y for _, y, _, to_y in drawn.arrows)
    assert all(0 <= box.x <= drawn.width - width and 0 <= box.y <= drawn.height - height for box in drawn.boxes)


def test_a_profile_without_weights_draws_students_below_their_teacher():
    links = {"features a": [], "teacher a": ["features a"], "student a": ["teacher a", "features a"]}
    assert dependencies.diagram(links).told == "teacher needs features; student needs teacher"
