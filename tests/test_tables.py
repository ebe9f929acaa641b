"""The study's tables against plain loops over the records."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import statistics

import pytest
import synthetic_records as made_up

from brcd_core import tables
from brcd_core.tables.cells import best
from brcd_core.tables.protocol import protocol
from brcd_core.tables.scores import largest_common_bits, rows
from brcd_core.tables.table import make

METHODS = ("alone", "rkd", "brcd", "brcd_no_mask")
STUDY = made_up.study(METHODS, students=("resnet18", "mobilenet_v2"), bits=(16, 64))
STUDY_TABLE = tables.main_table(STUDY)


def matching(found, **wanted):
    """The records whose kind and run have these values."""
    kept = []
    for record in found:
        has = record["run"] | {"kind": record["kind"]}
        if all(name in has and has[name] == value for name, value in wanted.items()):
            kept.append(record)
    return kept


def by_hand(found, **wanted):
    """The mAP of SSHP and ASHP (or of the teacher) of the runs that match, by a plain loop."""
    values = {}
    for record in matching(found, **wanted):
        for paradigm, measures in record["metrics"].items():
            values.setdefault(paradigm, []).append(measures["map"])
    return values


def without(found, **wanted):
    gone = matching(found, **wanted)
    assert gone
    return [record for record in found if record not in gone]


def lines_of(table):
    return list(csv.DictReader(io.StringIO(table.csv())))


# ---- the main table ---------------------------------------------------------------------------------------


def test_main_table_has_mean_and_sample_deviation_of_every_cell():
    table = tables.main_table(STUDY)
    for (student, method), line in table.cells.iterrows():
        for (length, paradigm), text in line.items():
            bits = int(length.split()[0])
            if method == "teacher":
                values = by_hand(STUDY, kind="teacher", bits=bits)["teacher"]
            else:
                chosen = by_hand(STUDY, kind="student", student=student, method=method, bits=bits)
                values = chosen[paradigm.lower()]
            assert text == f"{sum(values) / 3:.3f} ± {statistics.stdev(values):.3f}"


def test_csv_of_main_table_is_in_full_precision():
    for line in lines_of(tables.main_table(STUDY)):
        wanted = {"kind": "teacher", "teacher": line["teacher"], "bits": int(line["bits"])}
        if line["method"] != "teacher":
            wanted |= {"kind": "student", "student": line["student"], "method": line["method"]}
        values = by_hand(STUDY, **wanted)[line["paradigm"].lower()]
        assert float(line["mean"]) == pytest.approx(sum(values) / len(values), rel=1e-14)
        assert float(line["std"]) == pytest.approx(statistics.stdev(values), rel=1e-10)
        assert int(line["n"]) == len(values)


def test_main_table_lists_each_run_once_and_brcd_last():
    assert {(row.teacher, row.hash_model) for row in rows(STUDY)} == {("dinov2_vits14", "cibhash")}
    assert [tuple(row)[2:] for row in rows(STUDY)] == [
        ("dinov2_vits14", "teacher"),
        *((student, method) for student in ("mobilenet_v2", "resnet18")
          for method in ("alone", "rkd", "brcd", "brcd_no_mask")),
    ]  # fmt: skip
    assert len(lines_of(tables.main_table(STUDY))) == 2 * (1 + 2 * 4 * 2)


def test_bold_marks_the_best_student_of_each_column_and_backbone():
    table = tables.main_table(STUDY)
    for heading in table.cells.columns:
        assert not table.bold[heading]["dinov2_vits14", "teacher"]  # the greatest of all, but the reference
        for student in ("mobilenet_v2", "resnet18"):
            column = table.cells[heading][student]
            means = {method: float(text.split()[0]) for method, text in column.items()}
            marked = {method for method in means if table.bold[heading][student, method]}
            assert marked == {method for method in means if means[method] == max(means.values())}
    value = table.cells["64 bits", "SSHP"]["resnet18", "brcd"]
    line = next(line for line in table.markdown().splitlines() if line.startswith("| resnet18 | brcd |"))
    assert f"| **{value}** |" in line
    assert r"\textbf{" + value.replace("±", r"$\pm$") + "}" in table.latex()


def test_best_is_what_a_reader_sees():
    assert best([0.8121, 0.8124, 0.5]) == [True, True, False]
    assert best([0.3, None, 0.1], low=True) == [False, False, True]
    assert best([0.3, None]) == [False, False]  # nothing to compare with


def test_missing_seeds_show_in_n():
    found = without(STUDY, method="brcd", bits=64, seed=2)
    table = tables.main_table(found)
    assert table.cells["64 bits", "SSHP"]["resnet18", "brcd"].endswith("(n=2)")
    assert "(n=" not in table.cells["16 bits", "SSHP"]["resnet18", "brcd"]
    wanted = {"student": "resnet18", "method": "brcd", "bits": "64", "paradigm": "SSHP"}
    line = next(line for line in lines_of(table) if wanted.items() <= line.items())
    values = by_hand(found, student="resnet18", method="brcd", bits=64)["sshp"]
    assert int(line["n"]) == 2
    assert float(line["std"]) == pytest.approx(statistics.stdev(values))


def test_one_seed_has_no_spread_and_a_run_that_is_not_there_no_number():
    found = without(made_up.study(bits=(16, 32), seeds=(0,)), method="rkd", bits=32)
    table = tables.main_table(found)
    assert not any("±" in text for text in table.cells.to_numpy().ravel())
    assert "no spread" in table.caption
    assert table.cells["32 bits", "ASHP"]["resnet18", "rkd"] == "–"
    assert {line["std"] for line in lines_of(table)} == {""}


def test_caption_says_what_the_cells_are_where_the_numbers_of_seeds_differ():
    assert "deviation over 3 seeds;" in tables.main_table(STUDY).caption
    fewer = tables.main_table(without(STUDY, student="resnet18", method="brcd", bits=64, seed=2))
    assert "deviation over 3 seeds (another number: n);" in fewer.caption
    mixed = [*made_up.study(bits=(16, 32), seeds=(0,)), *made_up.study(bits=(64,))]
    table = tables.main_table(mixed)
    assert "over n seeds where n is given, elsewhere a single run" in table.caption
    assert table.cells["64 bits", "SSHP"]["resnet18", "brcd"].endswith("(n=3)")
    assert "n" not in table.cells["32 bits", "SSHP"]["resnet18", "brcd"]
    assert "over n seeds where n is given" in tables.training_table(mixed).caption


def test_several_teachers_are_told_apart():
    other = made_up.study(teacher="clip_vitb16", bits=(16,), seeds=(0,))
    table = tables.main_table([*STUDY, *other])
    assert list(table.cells.index.names) == ["teacher", "student", "method"]
    value = by_hand(other, teacher="clip_vitb16", method="brcd")["ashp"][0]
    text = table.cells["16 bits", "ASHP"]["clip_vitb16", "resnet18", "brcd"]
    assert text == f"{value:.3f} (n=1)"
    assert table.cells["64 bits", "ASHP"]["clip_vitb16", "resnet18", "brcd"] == "–"


# ---- the other tables -------------------------------------------------------------------------------------


def test_measures_table_takes_the_largest_common_length_and_marks_less_as_better_for_empty():
    found = without(STUDY, method="rkd", bits=64)
    assert largest_common_bits(found) == 16
    assert largest_common_bits(STUDY) == 64
    table = tables.measures_table(found)
    assert "16 bits" in table.caption
    column, bold = table.cells["nothing in radius 2"], table.bold["nothing in radius 2"]
    means = {method: float(column["resnet18", method, "ASHP"].split()[0]) for method in METHODS}
    lowest = min(means, key=means.__getitem__)
    assert bold["resnet18", lowest, "ASHP"]
    assert not bold["resnet18", max(means, key=means.__getitem__), "ASHP"]
    chosen = matching(found, student="resnet18", method="brcd", bits=16)
    values = [record["metrics"]["ashp"]["lookup_empty"] for record in chosen]
    assert column["resnet18", "brcd", "ASHP"].split()[0] == f"{sum(values) / 3:.3f}"
    assert len(table.cells) == 1 + 2 * 4 * 2


def test_training_table_is_mean_and_deviation_of_the_runs():
    table = tables.training_table(STUDY)
    chosen = [record["training"] for record in matching(STUDY, student="resnet18", method="rkd", bits=64)]
    epochs, seconds = [t["best_epoch"] for t in chosen], [t["seconds"] for t in chosen]
    line = table.cells.loc[("resnet18", "rkd", "64")]
    assert line["best epoch"] == f"{statistics.mean(epochs):.1f} ± {statistics.stdev(epochs):.1f}"
    assert line["seconds"] == f"{statistics.mean(seconds):.1f} ± {statistics.stdev(seconds):.1f}"
    assert len(table.cells) == 2 * (1 + 2 * 4)


def test_redundancy_and_features_tables_show_what_the_records_have():
    table = tables.redundancy_table(STUDY)
    record = matching(STUDY, kind="redundancy", bits=64)[0]
    line = table.cells.loc[("dinov2_vits14", "64", "0")]
    assert line["redundant bits"] == f"{record['metrics']['redundant_share']:.3f}"
    assert line["margin"] == "0.5"
    assert "silhouette" not in table.cells  # these records have none
    table = tables.features_table(STUDY)
    assert list(table.cells.index) == ["dinov2_vits14", "mobilenet_v2", "resnet18"]
    assert table.cells["MB"]["resnet18"] == f"{3 * 61.4:.1f}"
    assert table.cells["dimensions"]["resnet18"] == "384"
    assert "sets of" not in table.caption
    twice = made_up.features("resnet18")
    twice["banks"] |= {f"other {name}": bank for name, bank in twice["banks"].items()}
    caption = tables.features_table([made_up.features("dinov2_vits14"), twice]).caption
    assert " 2 sets of resnet18: logits too, or" in caption


def test_tables_without_their_records_say_so():
    for build in (tables.main_table, tables.measures_table, tables.training_table):
        with pytest.raises(ValueError, match="no record of a teacher or a student"):
            build([made_up.features("resnet18")])
    with pytest.raises(ValueError, match="no redundancy record"):
        tables.redundancy_table([made_up.features("resnet18")])


def test_run_table_has_one_row_a_run_and_short_checksums():
    table = tables.run_table(STUDY)
    assert len(table) == len(STUDY)
    wanted = {"student": "resnet18", "method": "brcd", "bits": 64, "seed": 1}
    line = next(line for _, line in table.iterrows() if all(line[n] == value for n, value in wanted.items()))
    record = matching(STUDY, **wanted)[0]
    assert line["map_ashp"] == record["metrics"]["ashp"]["map"]
    assert line["steps"] == record["training"]["steps"]
    assert line["data_checksum"] == "d" * 12
    text = table.to_csv(index=False)
    assert ",64,1," in text  # whole numbers stay whole where other rows are empty
    changed = copy.deepcopy(STUDY)
    matching(changed, kind="teacher")[0]["settings"]["evaluation"]["k"] = 5
    assert (tables.run_table(changed)["settings"] != table["settings"]).sum() == 1


# ---- captions, markdown, LaTeX ----------------------------------------------------------------------------


def test_protocol_comes_from_the_records():
    text = protocol(STUDY)
    for part in (
        "cifar10", "5,000 training", "50,000 database", "mAP@1000", "16 augmented views", "112 pixels",
        "one hidden layer of 1000", "cibhash", "SSHP (alone)", "seeds 0, 1, 2",
    ):  # fmt: skip
        assert part in text
    changed = copy.deepcopy(STUDY)
    for record in changed:
        record["settings"]["evaluation"]["k"] = 77
        record["settings"]["views"]["count"] = 0
    assert "mAP@77" in protocol(changed)
    assert "fresh augmented views" in protocol(changed)


def awkward():
    """A table full of characters that LaTeX or markdown would take for layout."""
    texts = ["a_b", "50 %", "x|y", "{z}", "a & b", "#1 ~ ^", "\\cmd", "0.5 ± 0.1", "<$>"]
    columns = {("16_bits", "a%"): texts, ("16_bits", "b"): texts, ("32", "c"): texts}
    bold, index = {("32", "c"): [True] * len(texts)}, list(enumerate(texts))
    return make("odd", "100 % of a_b & c", "note", STUDY_TABLE.values, index, ["n", "te_xt"], columns, bold)


@pytest.mark.parametrize("table", [STUDY_TABLE, tables.measures_table(STUDY), awkward()])
def test_latex_is_well_formed(table):
    text = table.latex()
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    plain = re.sub(r"\\textbackslash\{\}|\\text\w+\{\}|\$\\[a-z]+\$|\$-\$|\\[&%$#_{}]", "x", text)
    assert plain.count("{") == plain.count("}")
    assert not set("$#_^~|") & set(plain)
    assert text.isascii()
    body = plain[plain.index(r"\toprule") : plain.index(r"\bottomrule")]
    width = len(table.cells.columns) + len(table.cells.index.names)
    for line in (line for line in body.splitlines() if line.endswith(r"\\")):
        spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
        assert line.count("&") + 1 + sum(spans) - len(spans) == width
    assert f"{{{'l' * len(table.cells.index.names)}{'r' * len(table.cells.columns)}}}" in text
    assert re.findall(r"(?<!\\)%.*", text) == [r"% needs \usepackage{booktabs}"]


@pytest.mark.parametrize("table", [STUDY_TABLE, awkward()])
def test_markdown_has_equal_rows_and_plain_text_is_aligned(table):
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert set(cells) == {len(table.cells.columns) + len(table.cells.index.names) + 1}
    assert len(lines) == len(table.cells) + 2
    plain = table.plain().splitlines()
    rule = next(line for line in plain if set(line) == {"-", " "})
    start = plain.index(rule) + 1
    ends = [match.end() for match in re.finditer("-+", rule)]
    for line in plain[start : start + len(table.cells)]:
        # A number ends one place before its column does, and a star takes that place.
        assert len(line) in (ends[-1], ends[-1] - 1)
        assert all(line[end : end + 2].strip() == "" for end in ends[:-1])


def test_tables_are_rebuilt_with_the_same_bytes_from_records_in_any_order(tmp_path):
    shuffled = copy.deepcopy(STUDY)
    random.Random(1).shuffle(shuffled)
    again = json.loads(json.dumps(shuffled, sort_keys=True))
    first = tables.write_tables(STUDY, tmp_path / "a")
    second = tables.write_tables(again, tmp_path / "b")
    assert len(first) == 6 * 3
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert tables.run_table(STUDY).to_csv() == tables.run_table(again).to_csv()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    plain = {key: value for key, value in made_up.features("resnet18").items() if key != "efficiency"}
    only_features = tables.write_tables([plain], tmp_path / "c")
    assert [path.name for path in only_features] == ["features.csv", "features.md", "features.tex"]
