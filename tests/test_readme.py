"""What README and docs/ say is so: the example runs, links lead somewhere, the main table is the one in results/."""

import re
import subprocess

import pytest
import yaml

from brcd_core import distillation, profiles
from brcd_core.config import repository
from brcd_core.plots.gallery import anchor
from brcd_core.study import runs, student

README = (repository() / "README.md").read_text()
PAGES = [repository() / "README.md", *sorted((repository() / "docs").glob("*.md"))]
LINKS = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)]+)\)", page.read_text())]


def block(language, containing):
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)
    return next(text for text in blocks if containing in text)


def test_the_example_method_is_one_file_and_a_line_in_a_profile(places, tmp_path, monkeypatch):
    methods, profile_files = tmp_path / "methods", tmp_path / "profiles"
    methods.mkdir()
    profile_files.mkdir()
    (methods / "mse.py").write_text(block("python", "class Settings"))
    monkeypatch.setattr(distillation, "__path__", [*distillation.__path__, str(methods)])
    smoke = yaml.safe_load((profiles.profiles_dir() / "smoke.yaml").read_text())
    (profile_files / "quick.yaml").write_text((profiles.profiles_dir() / "quick.yaml").read_text())
    smoke["methods"] = yaml.safe_load(block("yaml", "mse"))["methods"]
    smoke["runs"][0]["methods"].append("mse")
    (profile_files / "mine.yaml").write_text(yaml.safe_dump(smoke))
    monkeypatch.setattr(profiles, "profiles_dir", lambda: profile_files)

    run = runs.StudentRun(profile="mine", method="mse")
    with_teacher = student.train_student(run, lambda line: None).record
    without = student.train_student(run.model_copy(update={"method": "alone"}), lambda line: None).record
    assert with_teacher["settings"]["distillation"] == {"name": "mse", "settings": {"weight": 0.5}}
    assert with_teacher["training"]["validation"]["map_ashp"] != without["training"]["validation"]["map_ashp"]


@pytest.mark.parametrize(("page", "target"), [pytest.param(*one, id=f"{one[0].name} {one[1]}") for one in LINKS])
def test_every_link_leads_to_a_file_of_the_repository_or_a_heading(page, target):
    if not target.startswith("http"):
        path, _, heading = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists()
        if heading:
            prose = re.sub(r"```.*?```", "", there.read_text(), flags=re.S)
            assert heading in map(anchor, re.findall(r"^#+ (.+)$", prose, flags=re.M))


def test_the_main_table_is_the_one_in_results():
    # The committed one: a study of one's own, on another processor, differs in the last digits.
    show = ["git", "show", "HEAD:results/paper112/tables/main.md"]
    table = subprocess.run(show, cwd=repository(), capture_output=True, text=True, check=True).stdout
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 4
    assert "\n".join(rows) in (repository() / "docs" / "results.md").read_text()


def test_the_short_table_is_four_rows_of_the_long_one():
    page = (repository() / "docs" / "results.md").read_text()
    long = dict(re.findall(r"^\| \S+ \| (\S+) \|(.+)\|$", page, flags=re.M))
    rows = re.findall(r"^\| (?:DINOv2|MobileNetV2|taught).* \| (\S+) \| (\S+) \|$", README, flags=re.M)
    for method, (sshp, ashp) in zip(("teacher", "alone", "bit_cross_entropy", "brcd"), rows, strict=True):
        found = [cell.strip(" *").split()[0] for cell in long[method].split("|")][-2:]
        assert [sshp.strip("*"), ashp.strip("*")] == found
