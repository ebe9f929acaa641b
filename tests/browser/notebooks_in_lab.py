"""Every notebook in JupyterLab, seen through a browser: run with Run > Run All Cells, then looked at.

Not a part of `make test`: `make test-browser`. It leaves pictures of all notebooks, and the notebooks as JupyterLab
saved them, in build/browser.
"""

from __future__ import annotations

import json
import re
import shutil

import pytest
from lab import browser, cells, close, dialogs, photograph, run_all, server, upload
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from brcd_core.config import repository

NOTEBOOKS = sorted(path.name for path in (repository() / "notebooks").glob("*.ipynb"))
FOLDER = repository() / "build" / "browser"
# (figures, tables) of each notebook, counted by hand, without those inside controls.
PROMISED = {
    "01_prepare_features.ipynb": (1, 2),
    "02_train_teacher.ipynb": (1, 1),
    "03_choose_weight.ipynb": (0, 1),
    "04_distil_students.ipynb": (1, 1),
    "05_bit_redundancy.ipynb": (6, 1),
    "06_tables.ipynb": (0, 13),
    "07_figures.ipynb": (17, 0),
    "08_search.ipynb": (2, 1),
    "09_view_counts.ipynb": (1, 1),
    "10_scale.ipynb": (2, 2),
}
WIDGET_FAILED = re.compile("Error displaying widget|Loading widget|model not found|Failed to load", re.I)
# What goes wrong for a user, as a cell, and what the faults must say then.
BROKEN = {
    "raises": ("print('before')\n1 / 0", "ZeroDivisionError"),
    "warns": ("import warnings\nwarnings.warn('beware')", "beware"),
    "image": ("from IPython.display import Image\nImage(data=b'no image', format='png')", "an image did not load"),
    "widget": (
        "from IPython.display import display\nview = {'model_id': 'none', 'version_major': 2, 'version_minor': 0}\n"
        "display({'application/vnd.jupyter.widget-view+json': view}, raw=True)",
        "a widget did not load",
    ),
}


@pytest.fixture(scope="module")
def address():
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "notebooks").mkdir(parents=True)
    with server(FOLDER) as url:
        yield url


@pytest.fixture(scope="module")
def driver():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def seen(driver, address):
    """A function: a notebook is run in the browser; what the page shows of its code cells, and all that is wrong."""

    def look(name, notebook):
        (FOLDER / "notebooks" / name).write_text(json.dumps(notebook))
        try:
            run_all(driver, address.format(name))
        finally:
            photograph(driver, FOLDER / f"{name.removesuffix('.ipynb')}.png")
        shown = cells(driver)
        return shown, faults(shown, dialogs(driver))

    yield look
    print(*(line["message"] for line in driver.get_log("browser")), sep="\n")  # pytest shows it where the test failed
    print((FOLDER / "server.log").read_text()[-2000:])
    close(driver)


def faults(shown, asked):
    """What a user would call broken, one line each."""
    found = [f"JupyterLab asks: {text}" for text in asked]
    for cell in shown:
        where = f"cell {cell['prompt']}"
        found += [f"{where} error: {text}" for text in cell["errors"]]
        found += [f"{where} warning: {text}" for text in cell["warnings"]]
        figures = cell["figures"] + cell["controlled"]
        found += [f"{where} an image did not load" for figure in figures if 0 in figure["natural"]]
        found += [f"{where} a figure is cut" for figure in figures if figure["cut"]]
        found += [f"{where} a bar has not finished" for bar in cell["bars"] if "success" not in bar]
        found += [f"{where} a widget did not load: {cell['text']}"] * bool(WIDGET_FAILED.search(cell["text"]))
        found += [f"{where} Traceback: {cell['text']}"] * ("Traceback (most recent call last)" in cell["text"])
        found += ["a cell has not run"] * (not re.fullmatch(r"\[\d+\]:", cell["prompt"]))
    return found


def sent(name):
    """(figures, tables, widgets) that the kernel sent for each code cell, from the notebook that JupyterLab saved."""
    notebook = json.loads((FOLDER / "notebooks" / name).read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            data = [output["data"] for output in cell["outputs"] if "data" in output]
            figures = sum(any(kind.startswith("image/") for kind in one) for one in data)
            tables = sum(
                "<table" in "".join(one.get("text/html", "")) or "\n| :-" in "".join(one.get("text/markdown", ""))
                for one in data
            )
            yield figures, tables, sum("application/vnd.jupyter.widget-view+json" in one for one in data)


def controlled(driver):
    """The figures inside controls, once all of them are there."""
    found = [figure for cell in cells(driver) for figure in cell["controlled"]]
    return [figure["source"] for figure in found if all(figure["natural"])]


def content(name):
    return json.loads((repository() / "notebooks" / name).read_text())


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_all_that_it_promises(name, seen):
    shown, wrong = seen(name, content(name))
    assert not wrong, "\n".join(wrong)
    assert [(len(cell["figures"]), cell["tables"], cell["widgets"]) for cell in shown] == list(sent(name))
    total = sum(len(cell["figures"]) for cell in shown), sum(cell["tables"] for cell in shown)
    assert total == PROMISED[name]
    if name == NOTEBOOKS[0]:  # nothing is in the cache yet
        assert any(cell["bars"] for cell in shown)


def test_another_cluster_is_drawn_when_it_is_chosen(seen, driver):
    seen("05_bit_redundancy.ipynb", content("05_bit_redundancy.ipynb"))
    before = controlled(driver)
    assert len(before) == 3
    choice = driver.find_element(By.CSS_SELECTOR, ".widget-dropdown select")
    next(option for option in Select(choice).options if not option.is_selected()).click()
    # The third is hidden where the cluster has no queries.
    WebDriverWait(driver, 120).until(lambda _: len(now := controlled(driver)) >= 2 and not {*before} & {*now})
    assert not faults(cells(driver), dialogs(driver))


def test_a_picture_of_ones_own_is_searched_with(seen, driver):
    seen("08_search.ipynb", content("08_search.ipynb"))
    assert not controlled(driver)
    Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 50).save(FOLDER / "mine.png")
    upload(driver, FOLDER / "mine.png")
    WebDriverWait(driver, 120).until(lambda _: len(controlled(driver)) == 1)
    assert not faults(cells(driver), dialogs(driver))


def broken(source, kernel="python3"):
    code = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    kernelspec = {"display_name": kernel, "language": "python", "name": kernel}
    both = [code | {"source": source}, code | {"source": "'the end'"}]
    return {"cells": both, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": 4}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found(name, seen):
    source, says = BROKEN[name]
    _, wrong = seen(f"broken-{name}.ipynb", broken(source))
    assert any(says in line for line in wrong)
    assert ("a cell has not run" in wrong) == (name == "raises")


def test_a_missing_kernel_is_found(seen):
    _, wrong = seen("broken-kernel.ipynb", broken("1", kernel="none"))
    assert wrong[0].startswith("JupyterLab asks: ") and wrong[1:] == ["a cell has not run"] * 2
