"""Parameters of notebooks and profiles: what is allowed, and what an error says."""

from functools import cache

import pytest
import yaml

from brcd_core import datasets, profiles
from brcd_core.profiles import ParameterError, laid_over
from brcd_core.study import parameters, plan, runs
from brcd_core.study.view_counts_run import ViewCountsRun


def notebook(*cells):
    """The globals of a notebook after these cells ran, with IPython's history of them."""
    namespace = {"In": ["", *cells], "Out": {}}
    for cell in cells:
        exec(cell, namespace)
    return namespace


def test_defaults_are_the_profiles_first():
    run = parameters.read(notebook('profile = "smoke"\nstudent = None\nmethod = None'), runs.StudentRun)
    assert (run.teacher, run.student, run.method) == ("tiny_teacher", "tiny_student", "alone")
    assert (run.bits, run.seed) == (16, 0)


def test_what_papermill_injects_counts():
    cells = ('profile = "smoke"\nbits = None', "# Parameters\nbits = 32\nseed = 1")
    run = parameters.read(notebook(*cells), runs.TeacherRun)
    assert (run.bits, run.seed) == (32, 1)


def test_later_cells_and_earlier_tries_are_no_parameters():
    cells = ('profile = "smoke"\nbitz = 3', "record = {}\nfound = 7", 'profile = "smoke"\nbits = 8')
    assert parameters.read(notebook(*cells), runs.TeacherRun).bits == 8


def test_without_a_history_plain_data_are_the_parameters():
    namespace = notebook('import math\nprofile = "smoke"\nbits = 8') | {"In": [""]}
    assert parameters.read(namespace, runs.TeacherRun).bits == 8
    with pytest.raises(ParameterError, match="unknown parameter 'bitz'"):
        parameters.read(namespace | {"bitz": 16}, runs.TeacherRun)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('profile = "smoke"\nbitz = 16', r"unknown parameter 'bitz'; this notebook has: .*hash_model, bits, seed"),
        ('profile = "smok"', r"unknown profile 'smok'; there are: .*smoke"),
        ('profile = "smoke"\nteacher = "vit_b99"', r"unknown teacher 'vit_b99'; there are: .*dinov2_vits14"),
        ('profile = "smoke"\nbits = 0', r"positive multiple of 8 bits, not 0"),
        ('profile = "smoke"\nbits = 12', r"positive multiple of 8 bits, not 12"),
        ('profile = "smoke"\nbits = "16"', r"bits: Input should be a valid integer \(given: '16'\)"),
        ('profile = "smoke"\nseed = True', r"seed: .*integer"),
        ('profile = "smoke"\nchange = {"viewz": 3}', r"viewz: there is no such setting"),
        ('profile = "smoke"\nchange = {"data": {"dataset": "cifar11"}}', r"unknown dataset 'cifar11'; there are"),
        ('profile = "smoke"\nchange = {"data": {"query": 0}}', r"data\.query.*greater than or equal to 1"),
        ('profile = "smoke"\nchange = {"distillation": {"name": "brdc"}}', r"unknown distillation method 'brdc'"),
        (
            'profile = "smoke"\nchange = {"distillation": {"name": "brcd", "settings": {"margn": 1}}}',
            r"margn",
        ),
        ('profile = "smoke"\nchange = {"data": {"train": 101}}', r"sample: train size 101 is not in 1 \.\. 100"),
        ('profile = "smoke"\nchange = {"views": {"used": 99}}', r"views: used is 99, but the bank has 20 views"),
        ('profile = "smoke"\nchange = {"views": {"count": 0, "used": 1}}', r"the bank has 0 views"),
        (
            'profile = "smoke"\nchange = {"views": {"once": True, "count": 19}}',
            r"once needs 2 views an epoch, 20 in all; views\.count is 19",
        ),
        ('profile = "smoke"\nchange = {"views": {"used": 2, "once": True}}', r"used and once exclude each other"),
        ('profile = "smoke"\nteacher = "dinov2_vits14"', r"dinov2_vits14 wants a size that is a multiple of 14"),
        ('profile = "smoke"\nchange = {"teacher": {"feature": "logits"}}', r"tiny_teacher has no feature 'logits'"),
        ('profile = "smoke"\nseed = -1', r"seed: .*greater than or equal to 0"),
        ('profile = "smoke"\nhash_model = "cibhsh"', r"unknown hash model 'cibhsh'; there are: bihalf, cibhash"),
        ('profile = "smoke"\nchange = {"hash_model": {"name": "sdc"}}', r"'cibhash', but change names 'sdc'"),
        ('profile = ["smoke"]', r"profile is a name, not \['smoke'\]"),
        ('profile: str = "smoke"\nbitz: int = 3', r"unknown parameter 'bitz'"),
        ("teacher = None", r"unknown profile ''; there are: .*smoke"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(cell, message):
    with pytest.raises(ParameterError, match=message):
        parameters.read(notebook(cell), runs.TeacherRun)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('profile = "quick"', r"no view_counts, so give counts, once, seeds, method, bits"),
        ('profile = "quick"\ncounts = [2]\nonce = True\nseeds = [0]', r"no view_counts, so give method, bits"),
        ('profile = "smoke"\ncounts = [2, 21]', r"used is 21, but the bank has 20 views"),
        ('profile = "smoke"\ncounts = [0]', r"greater than or equal to 1"),
        ('profile = "smoke"\ncounts = []', r"counts: List should have at least 1 item"),
        ('profile = "smoke"\nmethod = "brdc"', r"unknown method 'brdc'"),
        ('profile = "smoke"\nbits = 12', r"positive multiple of 8 bits, not 12"),
        ('profile = "smoke"\nchange = {"student": {"training": {"epochs": 11}}}', r"22 in all; views\.count is 20"),
    ],
)
def test_a_wrong_parameter_of_the_comparison_of_views_is_named(cell, message):
    with pytest.raises(ParameterError, match=message):
        parameters.read(notebook(cell), ViewCountsRun)


def test_the_comparison_of_views_is_as_the_profile_says_but_for_what_is_given():
    run = parameters.read(notebook('profile = "smoke"\ncounts = [3]\nonce = None\nseeds = [5, 2]'), ViewCountsRun)
    assert (run.method, run.bits, run.counts, run.once, run.seeds) == ("brcd", 16, [3], True, [5, 2])
    assert list(run.student_runs()) == [(3, 5), (3, 2), ("once", 5), ("once", 2)]
    for (views, seed), one in run.student_runs().items():
        for settings in (one.settings, one.teacher_run().settings):
            assert (settings.views.used, settings.views.once) == ((None, True) if views == "once" else (3, False))
        assert one.seed == one.teacher_run().seed == seed
    folders = {one.folder for one in run.student_runs().values()}
    folders |= {one.teacher_run().folder for one in run.student_runs().values()}
    assert len(folders) == 8
    # The weight is that of the profile's own students, chosen on the whole bank.
    assert {one.weights_run().folder for one in run.student_runs().values()} == {
        runs.StudentRun(profile="smoke", method="brcd").weights_run().folder
    }


def test_more_queries_than_there_are():
    with pytest.raises(ParameterError, match="queries: 51 asked for, the query split has 50 images"):
        parameters.read(notebook('profile = "smoke"\nqueries = 51'), runs.SearchRun)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts | {"database": parts["database"][::-1]}, "must begin with the training images, in their"),
        (lambda parts: parts | {"train": parts["train"][::-1]}, "must begin with the training images, in their order"),
        (lambda parts: parts | {"query": parts["database"][-50:]}, "must not share an image"),
        (lambda parts: parts | {"validation": parts["query"]}, "must not share an image"),
    ],
)
def test_a_split_of_ones_own_that_breaks_a_rule_is_named(change, message, monkeypatch):
    entry = datasets.DATASETS["sample"]
    wrong = entry._replace(split=lambda folder, sizes: change(dict(entry.split(folder, sizes))))
    monkeypatch.setitem(datasets.DATASETS, "sample", wrong)
    with pytest.raises(ParameterError, match=f"sample: .*{message}"):
        parameters.read(notebook('profile = "smoke"'), runs.TeacherRun)


def test_an_unknown_method_is_named():
    with pytest.raises(ParameterError, match=r"unknown method 'bcrd'; there are: alone, .*brcd"):
        parameters.read(notebook('profile = "smoke"\nmethod = "bcrd"'), runs.StudentRun)


def test_a_method_is_a_change_of_the_settings():
    study = profiles.load("smoke")
    assert study.resolve("alone").distillation.name == "none" and study.resolve("alone").select == "sshp"
    assert study.resolve("brcd").distillation.name == "brcd" and study.resolve("brcd").select == "mean"
    changed = study.resolve("brcd", {"distillation": {"settings": {"alpha": 0.5}}})
    assert changed.distillation.name == "brcd" and changed.distillation_settings().alpha == 0.5


def test_changes_are_laid_over_key_by_key():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert laid_over(base, {"a": {"c": [9]}}) == {"a": {"b": 1, "c": [9]}, "d": 3}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    choice = {"method": {"name": "brcd", "settings": {"alpha": 0.5}}}
    assert laid_over(choice, {"method": {"settings": {"margin": 0.1}}})["method"] == {
        "name": "brcd",
        "settings": {"alpha": 0.5, "margin": 0.1},
    }
    assert laid_over(choice, {"method": {"name": "none"}}) == {"method": {"name": "none"}}


def test_a_changed_run_has_a_folder_of_its_own():
    plain = runs.TeacherRun(profile="smoke")
    changed = runs.TeacherRun(profile="smoke", change={"teacher": {"hidden": 8}})
    other = runs.TeacherRun(profile="smoke", change={"teacher": {"hidden": 9}})
    assert len({plain.folder, changed.folder, other.folder}) == 3
    assert changed.settings.teacher.hidden == 8


@pytest.mark.parametrize("name", profiles.names())
def test_every_committed_profile_is_valid_and_its_runs_are_distinct(name):
    every = plan.every(name)
    folders = [run.folder for run in every]
    assert len(set(folders)) == len(folders)
    for block in profiles.load(name).runs:
        sizes = (block.teachers, block.students, block.methods, block.bits, block.seeds)
        assert all(len(set(size)) == len(size) > 0 for size in sizes)


def test_a_profile_may_be_like_another(tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text((profiles.profiles_dir() / "smoke.yaml").read_text())
    (tmp_path / "quick.yaml").write_text((profiles.profiles_dir() / "quick.yaml").read_text())
    (tmp_path / "wide.yaml").write_text(
        "{description: x, like: base, settings: {student: {hidden: 7}}, methods: {mine: {select: ashp}}, "
        "runs: [{teachers: [tiny_teacher], students: [tiny_student], methods: [mine, brcd], bits: [8], seeds: [0]}]}"
    )
    monkeypatch.setattr(profiles, "profiles_dir", lambda: tmp_path)
    like, base = profiles.load("wide"), profiles.load("base")
    assert like.settings.student.hidden == 7 and base.settings.student.hidden == 64
    assert like.settings.data == base.settings.data
    assert like.resolve("mine").select == "ashp" and like.resolve("brcd").distillation.name == "brcd"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("settings: {data: [", r"(?s)mine\.yaml is no YAML: .*line 1"),
        ("", r"mine\.yaml holds no settings; copy another profile"),
        ("- smoke", r"mine\.yaml holds no settings"),
        ("like: mine", r"mine\.yaml: like: a profile is like another one"),
        ("{like: smok, runs: []}", "unknown profile 'smok'; there are: mine, quick, smoke"),
        ("like: smoke\nsettings:\nmethods:\n", r"mine\.yaml: description: Field required.*runs: Field required"),
    ],
)
def test_a_slip_in_a_profile_is_named(text, message, tmp_path, monkeypatch):
    for name in ("smoke", "quick"):
        (tmp_path / f"{name}.yaml").write_text((profiles.profiles_dir() / f"{name}.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr(profiles, "profiles_dir", lambda: tmp_path)
    monkeypatch.setattr(profiles, "load", cache(profiles.load.__wrapped__))  # another one's "mine" may be remembered
    with pytest.raises(ParameterError, match=message):
        profiles.load("mine")


def test_a_profile_with_a_wrong_key_names_the_file(tmp_path, monkeypatch):
    good = yaml.safe_load((profiles.profiles_dir() / "smoke.yaml").read_text())
    good["settings"]["data"]["trian"] = 5
    (tmp_path / "mistyped.yaml").write_text(yaml.safe_dump(good))
    monkeypatch.setattr(profiles, "profiles_dir", lambda: tmp_path)
    with pytest.raises(ParameterError, match=r"mistyped\.yaml: settings\.data\.trian: there is no such setting"):
        profiles.load("mistyped")
