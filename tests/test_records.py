"""Records and files that are either whole or not there."""

import errno
import json
import subprocess

import numpy as np
import pytest
import torch

from brcd_core import atomic, records
from brcd_core.config import fingerprint, repository
from brcd_core.records import RecordError


def test_a_record_comes_back_as_plain_numbers(tmp_path):
    record = {"metrics": {"map": np.float32(0.5), "counts": np.arange(3)}, "none": None, "text": ("a", 1)}
    path = records.write(tmp_path / "run", record)
    assert records.finished(tmp_path / "run") and not records.finished(tmp_path)
    assert records.read(tmp_path / "run") == {
        "metrics": {"map": 0.5, "counts": [0, 1, 2]},
        "none": None,
        "text": ["a", 1],
    }
    assert path.read_text() == records.write(tmp_path / "again", dict(reversed(record.items()))).read_text()


@pytest.mark.parametrize("value", [float("nan"), np.float64("inf"), [1.0, -np.inf], np.array([np.nan])])
def test_a_record_cannot_hold_what_is_no_number(tmp_path, value):
    with pytest.raises(ValueError, match="cannot hold"):
        records.write(tmp_path, {"x": value})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named(tmp_path):
    path = records.write(tmp_path, {"a": 1})
    path.write_text(path.read_text()[:-4])
    with pytest.raises(RecordError, match=r"record\.json is damaged.*delete it and run again"):
        records.read(tmp_path)


def test_collected_records_round_trip_and_name_a_damaged_line(tmp_path):
    path = tmp_path / "records.jsonl"
    records.save_all(path, [{"b": 1, "a": [2.5]}, {"c": "ü"}])
    assert records.load_all(path) == [{"b": 1, "a": [2.5]}, {"c": "ü"}]
    path.write_text(path.read_text()[:-3])
    with pytest.raises(RecordError, match="line 2 is damaged"):
        records.load_all(path)


def test_a_changed_value_is_found_though_it_is_json_still(tmp_path):
    """One digit that is another, in a file that can be read; nor is one without its checksum taken."""
    record = {"metrics": {"map": 0.625}, "run": {"seed": 0}}
    path = records.write(tmp_path, record)
    records.save_all(tmp_path / "records.jsonl", [{}, record])
    for one in (path, tmp_path / "records.jsonl"):
        one.write_text(one.read_text().replace("0.625", "0.125"))
    with pytest.raises(RecordError, match=r"record\.json is damaged \(it is not what was written\); delete it"):
        records.read(tmp_path)
    with pytest.raises(RecordError, match="line 2 is damaged"):
        records.load_all(tmp_path / "records.jsonl")
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="it is not what was written"):
        records.read(tmp_path)


def test_provenance_says_what_git_says():
    found = records.provenance(torch.device("cpu"), 1.234, {"data": "abc"})
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository(), capture_output=True, text=True)
    assert found["git_revision"] == (head.stdout.strip() if head.returncode == 0 else None)
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert found["inputs"] == {"data": "abc"} and found["seconds"] == 1.23
    assert "core" in found["device"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")
    with pytest.raises(RuntimeError), atomic.replacing(path) as part:
        part.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_full_disk_is_said_plainly(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match=r"no space left to write .*record\.json; free some and run again"):
        records.write(tmp_path, {"a": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_array_that_was_cut_short_is_a_full_disk_too(tmp_path):
    """numpy.save says so in words of its own, without an error number."""
    path = tmp_path / "a.npy"
    with pytest.raises(OSError, match=r"no space left to write .*a\.npy; free some") as caught, atomic.replacing(path):
        raise OSError("1000000 requested and 204672 written")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"^another$"), atomic.replacing(path):
        raise OSError("another")


def test_fingerprints_do_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint(json.loads('{"b": [2], "a": 1}'))
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
