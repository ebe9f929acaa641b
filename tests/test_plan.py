"""Which runs a profile consists of, by counting combinations by hand."""

import pytest

from brcd_core import profiles
from brcd_core.study import code_version, dependencies, plan, runs

PROFILE = """
description: x
like: quick
settings:
  data: {dataset: sample, train: 100, validation: 50, query: 50, database: 200}
  views: {count: 4, size: 32}
  weights: {factors: [0.1, 1], groups: [[8, 16]]}
methods:
  fixed: {distillation: {name: rkd, settings: {weight: 2.0}}}
runs:
  - {teachers: [tiny_teacher], students: [tiny_student], methods: [alone, brcd], bits: [8, 16, 24], seeds: [0, 1]}
  - part: ablation
    teachers: [tiny_teacher]
    students: [tiny_student]
    methods: [brcd, brcd-no-mask]
    bits: [16]
    seeds: [1]
  - part: hash_models
    teachers: [tiny_teacher]
    students: [tiny_student]
    hash_models: [cibhash, itq]
    methods: [alone]
    bits: [16]
    seeds: [0]
  - {part: released, teachers: [tiny_teacher], students: [tiny_student], methods: [fixed, sskd], bits: [16], seeds: [0]}
"""


@pytest.fixture(autouse=True)
def profile(tmp_path, monkeypatch):
    (tmp_path / "quick.yaml").write_text((profiles.profiles_dir() / "quick.yaml").read_text())
    (tmp_path / "planned.yaml").write_text(PROFILE)
    monkeypatch.setattr(profiles, "profiles_dir", lambda: tmp_path)
    profiles.load.cache_clear()
    yield
    profiles.load.cache_clear()


def test_every_combination_is_there_once():
    found = [(run.method, run.hash_model, run.bits, run.seed) for run in plan.students("planned")]
    main = {(m, "cibhash", b, s) for m in ("alone", "brcd") for b in (8, 16, 24) for s in (0, 1)}
    others = {("brcd-no-mask", "cibhash", 16, 1), ("alone", "itq", 16, 0)}
    others |= {("fixed", "cibhash", 16, 0), ("sskd", "cibhash", 16, 0)}
    assert len(found) == len(set(found)) and set(found) == main | others
    teachers = {(run.hash_model, run.bits, run.seed) for run in plan.teachers("planned")}
    assert teachers == {("cibhash", b, s) for b in (8, 16, 24) for s in (0, 1)} | {("itq", 16, 0)}


def test_a_student_of_two_parts_is_trained_in_the_first_and_belongs_to_both():
    groups = plan.student_groups("planned")
    trained = [run.folder for group in groups for run in group.student_runs()]
    assert len(trained) == len(set(trained)) == len(plan.students("planned"))
    ablation = [group for group in groups if group.part == "ablation"]
    assert [group.methods for group in ablation] == [["brcd-no-mask"]]
    run = runs.StudentRun(profile="planned", method="brcd", bits=16, seed=1)
    assert plan.parts("planned")[run.folder] == ["main", "ablation"]
    teacher = runs.TeacherRun(profile="planned", bits=16, seed=0)
    assert plan.parts("planned")[teacher.folder] == ["main", "hash_models", "released"]


def test_code_lengths_of_a_group_share_the_choice_of_weights():
    found = {(run.method, run.hash_model, run.bits, run.seed) for run in plan.weights("planned")}
    # 8 and 16 bits choose at 16; 24 is in no group. `fixed` names its weight, `alone` has none.
    assert found == {("brcd", "cibhash", 16, 0), ("brcd", "cibhash", 24, 0), ("sskd", "cibhash", 16, 0)}
    of = {bits: runs.StudentRun(profile="planned", method="brcd", bits=bits).weights_run().bits for bits in (8, 16, 24)}
    assert of == {8: 16, 16: 16, 24: 24}
    assert runs.StudentRun(profile="planned", method="fixed").weights_run() is None
    assert runs.StudentRun(profile="planned", method="alone").weights_run() is None


def test_a_variant_takes_the_choice_of_its_method():
    variant, plain = (runs.StudentRun(profile="planned", method=name, bits=16) for name in ("brcd-no-mask", "brcd"))
    assert variant.weights_run() == plain.weights_run()


def test_bits_are_analysed_for_one_seed_of_each_main_teacher():
    assert [(run.bits, run.seed) for run in plan.redundancy("planned")] == [(8, 0), (16, 0), (24, 0)]


def test_a_teacher_has_the_hash_model_of_its_student():
    run = runs.StudentRun(profile="planned", method="alone", hash_model="itq")
    assert run.teacher_run().hash_model == "itq" and run.teacher_run().settings.hash_model.name == "itq"
    assert run.teacher_run().folder != runs.TeacherRun(profile="planned").folder


def test_features_are_prepared_for_every_method_that_needs_them():
    variants = runs.FeatureRun(profile="planned", backbone="tiny_student").variants()
    assert {settings.distillation.name for _, settings in variants} == {"none", "brcd", "rkd", "sskd"}


def test_code_changes_a_runs_version_and_comments_do_not(tmp_path, monkeypatch):
    def version(text):
        (tmp_path / "a.py").write_text(text)
        monkeypatch.setattr(code_version, "MODULES", code_version.read_package(tmp_path))
        return code_version.of_files(["*.py"])

    first = version('"""Doc."""\nx = 1  # why\n')
    assert version('"""Other."""\n\nx = 1\n') == first != version("x = 2\n")


def test_code_is_written_down_alike_on_every_python():
    """Python 3.12 has a field more, 3.13 leaves out what is empty: a study is not to be made again for that."""
    assert code_version._code('"""Doc."""\n\n\ndef f(x):\n    return x\n') == (
        "Module(body=[FunctionDef(name='f', args=arguments(posonlyargs=[], args=[arg(arg='x')], kwonlyargs=[], "
        "kw_defaults=[], defaults=[]), body=[Return(value=Name(id='x', ctx=Load()))], decorator_list=[])], "
        "type_ignores=[])"
    )


def test_what_a_method_shares_with_others_is_part_of_its_version(monkeypatch):
    bihalf = runs.TeacherRun(profile="planned", hash_model="bihalf")
    cibhash = runs.TeacherRun(profile="planned")
    before = code_version.of(bihalf), code_version.of(cibhash)
    changed = code_version.MODULES | {"hashing/similarity.py": "x = 3"}
    monkeypatch.setattr(code_version, "MODULES", changed)
    assert code_version.of(bihalf) != before[0] and code_version.of(cibhash) == before[1]


def test_features_do_not_depend_on_a_methods_other_settings(tmp_path):
    before = runs.FeatureRun(profile="planned", backbone="tiny_student").made_with()
    (tmp_path / "planned.yaml").write_text(PROFILE.replace("weight: 2.0", "weight: 3.0"))
    profiles.load.cache_clear()
    assert runs.FeatureRun(profile="planned", backbone="tiny_student").made_with() == before
    (tmp_path / "planned.yaml").write_text(PROFILE.replace("count: 4", "count: 5"))
    profiles.load.cache_clear()
    assert runs.FeatureRun(profile="planned", backbone="tiny_student").made_with() != before


def test_numbers_of_views_share_features_and_are_planned_where_the_profile_asks(tmp_path):
    assert plan.view_counts("planned") == []
    before = runs.FeatureRun(profile="planned", backbone="tiny_student").made_with()
    asked = "view_counts: {counts: [1, 3], seeds: [0], method: fixed, bits: 16}\n"
    (tmp_path / "planned.yaml").write_text(PROFILE.replace("size: 32", "size: 32, used: 2") + asked)
    profiles.load.cache_clear()
    assert runs.FeatureRun(profile="planned", backbone="tiny_student").made_with() == before
    (run,) = plan.view_counts("planned")
    assert (run.counts, run.once, run.method) == ([1, 3], False, "fixed") and run in plan.every("planned")
    # A student with the first two views is another run than that with three, and than the profile's own.
    own = runs.StudentRun(profile="planned", method="fixed", bits=16)
    assert len({own.folder, *(one.folder for one in run.student_runs().values())}) == 3
    (tmp_path / "planned.yaml").write_text(PROFILE + asked.replace("3]", "5]"))
    profiles.load.cache_clear()
    with pytest.raises(profiles.ParameterError, match="used is 5, but the bank has 4 views"):
        profiles.load("planned")


def test_the_weight_of_the_comparison_of_views_is_chosen_even_where_no_student_needs_it(tmp_path):
    asked = "view_counts: {counts: [1, 3], seeds: [0], method: crd, bits: 24}\n"
    (tmp_path / "planned.yaml").write_text(PROFILE + asked)
    profiles.load.cache_clear()
    (run,) = plan.view_counts("planned")
    (choice,) = (one for one in plan.weights("planned") if one.method == "crd")
    assert (choice.bits, choice.change) == (24, {})
    assert {one.weights_run().folder for one in run.student_runs().values()} == {choice.folder}
    # And where no student has a choice at all.
    alone = "  - {teachers: [tiny_teacher], students: [tiny_student], methods: [alone], bits: [16], seeds: [0]}\n"
    (tmp_path / "planned.yaml").write_text(PROFILE.split("  - ")[0] + alone + asked)
    profiles.load.cache_clear()
    assert [(one.method, one.bits) for one in plan.weights("planned")] == [("crd", 24)]
    links = dependencies.links(plan.every("planned"))
    drawn = dependencies.diagram(links)
    assert "view_counts needs weights" in drawn.told and "weights needs features" in drawn.told
    # Its teacher of 24 bits is no run of the plan, so the choice belongs to the features.
    assert sum(len(names(branch)) for branch in dependencies.tree(links)) == len(links)


def names(branch):
    """The labels of a branch and of all below it."""
    return [branch.label, *(name for below in branch.branches for name in names(below))]


@pytest.mark.parametrize("method", ["alone", "fixed"])
def test_a_method_without_a_weight_to_choose_is_refused(method):
    with pytest.raises(ValueError, match=f"method '{method}' has no weight to choose"):
        runs.WeightsRun(profile="planned", method=method)


def test_students_of_a_part_that_has_none_are_named():
    group = runs.StudentsRun(profile="planned", part="hash_models", hash_model="itq", bits=16)
    assert [run.method for run in group.student_runs()] == ["alone"]
    with pytest.raises(ValueError, match=r"no student 'tiny_student' of teacher 'tiny_teacher'.*part 'sensitivity'"):
        runs.StudentsRun(profile="planned", part="sensitivity")


def test_the_version_of_a_student_follows_its_own_method_alone():
    ours, other = (runs.StudentRun(profile="planned", method=name) for name in ("brcd", "fixed"))
    assert code_version.of(ours) != code_version.of(other)
    for run in plan.every("planned"):
        assert len(code_version.of(run)) == 64
