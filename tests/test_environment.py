"""The three lists of dependencies say the same, and the repository keeps its own rules."""

import json
import re
import tomllib

import pytest
import yaml

from brcd_core.config import repository

ROOT = repository()
# What conda-forge calls another name; uv is what make itself installs with.
CONDA = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "snakemake": "snakemake-minimal",
}
NOT_IN_CONDA = {"uv"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def declared():
    """Package -> lower bound, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    return {line.split(">=")[0]: line.split(">=")[1] for line in lines}


def test_environment_yml_has_the_same_names_and_bounds():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(line.split(">=") for line in lines if isinstance(line, str) and ">=" in line)
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert ">=" + conda.pop("python") == python
    assert conda == {CONDA.get(name, name): bound for name, bound in declared().items() if name not in NOT_IN_CONDA}


def test_the_lock_has_everything_with_hashes_and_above_its_bound():
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.findall(r"^([a-z0-9.-]+)==([^ \\]+).*?(?=^[a-z]|\Z)", lock, flags=re.M | re.S)
    locked = {}
    for name, version in blocks:
        locked.setdefault(name, []).append(version)

    def numbers(version):
        return [int(part) for part in re.findall(r"\d+", version)[:3]]

    for name, bound in declared().items():
        assert name in locked, f"{name} is not in requirements.lock; run: make lock"
        assert all(numbers(version) >= numbers(bound) for version in locked[name])
    pins = re.findall(r"^[a-z0-9.-]+==", lock, flags=re.M)
    assert len(re.findall(r"^[a-z0-9.-]+==[^\n]*\\\n    --hash=sha256:", lock, flags=re.M)) == len(pins) > 100


def test_the_makefile_installs_the_uv_of_the_lock():
    version = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), flags=re.M).group(1)
    assert f"\nuv=={version} " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_have_one_parameters_cell(path):
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])] == code[:1]
    assert "parameters.read(globals()" in "".join(code[1]["source"])
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert "How long" in "".join(notebook["cells"][0]["source"])


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(1, 11)]
