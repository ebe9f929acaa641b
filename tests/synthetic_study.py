"""A whole made-up study: every part of it, with the choice of weights and the comparisons."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import synthetic_records as made_up
from synthetic_records import Record

ABLATION: dict[str, dict[str, Any]] = {
    "brcd-no-structural": {"structural": False},
    "brcd-no-clusters": {"clusters": False},
    "brcd-redundant-bits": {"mask": "redundant"},
    "brcd-own-masks": {"released": {"zero_mask": False, "own_masks": True}},
}
SENSITIVITY: dict[str, tuple[float, ...]] = {
    "alpha": (0, 0.2, 0.5, 1.0),
    "margin": (0.1, 0.3, 0.7, 0.9),
    "n_clusters": (2, 5, 20, 40),
    "temperature": (0.1, 0.2, 0.5, 1.0),
    "weight": (0.1, 0.3, 3.0, 10.0),
}


def whole_study(
    students: tuple[str, ...] = ("resnet18",), bits: tuple[int, ...] = (16, 64), seeds: tuple[int, ...] = (0, 1)
) -> list[Record]:
    """A made-up study with every part: main, ablation, hash models, backbones, released, sensitivity, and the rest."""
    teacher, student, most = "dinov2_vits14", students[0], bits[-1]
    found = made_up.study(made_up.METHODS, students, bits, seeds, teacher)
    for record in found:
        run = record["run"]
        if run.get("student") == student and run["bits"] == most and run.get("method") in ("alone", "brcd"):
            record["parts"] = ["main", "hash_models", "backbones"]
    for seed in seeds:
        for method, change in ABLATION.items():
            found.append(
                made_up.student_record(teacher, student, method, most, seed, parts=("ablation",), change=change)
            )
        own = {"released": {"zero_mask": True, "own_masks": False}}
        found.append(
            made_up.student_record(teacher, student, "brcd-zero-mask", most, seed, parts=("released",), change=own)
        )
        own = {"weight": 1.0, "released": {"over_bits": True}}
        found.append(
            made_up.student_record(teacher, student, "sp-released", most, seed, parts=("released",), change=own)
        )
        for hash_model in ("sdc", "itq"):
            parts = ("hash_models",)
            found.append(made_up.teacher_record(teacher, most, seed, hash_model, parts))
            for method in ("alone", "brcd") if hash_model == "sdc" else ("alone",):
                found.append(made_up.student_record(teacher, student, method, most, seed, hash_model, parts))
        found.append(made_up.teacher_record("clip_vitb16", most, seed, parts=("backbones",)))
        for method in ("alone", "brcd"):
            found.append(made_up.student_record("clip_vitb16", student, method, most, seed, parts=("backbones",)))
    for name, values in SENSITIVITY.items():
        for value in values:
            method, parts = f"brcd-{name}-{value:g}", ("sensitivity",)
            found.append(
                made_up.student_record(teacher, student, method, most, seeds[0], parts=parts, change={name: value})
            )
    found += [weights(teacher, student, bits), comparisons(found, seeds), made_up.features("clip_vitb16")]
    return [*found, made_up.view_counts(teacher, student, most)]


def without_labels(found: list[Record]) -> list[Record]:
    """The same records as a dataset without labels leaves them: agreement alone, no curves, no comparisons."""
    found = [copy.deepcopy(record) for record in found if record["kind"] != "comparisons"]
    for record in found:
        if record["kind"] in ("teacher", "student"):
            record["metrics"] = {name: {"agreement": m["map"] - 0.3} for name, m in record["metrics"].items()}
            record["curves"] = {name: {} for name in record["curves"]}
            training = record["training"]
            for line in [training["validation"], *training["history"]]:
                for name in [name for name in line if name.startswith("map")]:
                    line[name.replace("map_", "agreement_").replace("map", "agreement_teacher")] = line.pop(name)
        if record["kind"] == "view_counts":
            record["measure"] = "agreement"
            for row in record["rows"]:
                for name in ("teacher", "sshp", "ashp"):
                    for split in ("", "validation_"):
                        row[f"{split}agreement_{name}"] = row.pop(f"{split}map_{name}") - 0.3
        if record["kind"] == "redundancy":
            empty: Record = {"classes": [], "class_counts": [[] for _ in record["analysis"]["sizes"]], "dropping": []}
            record["analysis"] |= empty
            record["metrics"]["purity"] = None
            for line in record["analysis"]["over_clusters"]:
                line["purity"] = None
    return found


def weights(teacher: str, student: str, lengths: tuple[int, ...], hash_model: str = "cibhash") -> Record:
    """The choice of every method's weight, on three factors."""
    grid = []
    for method in made_up.METHODS[1:]:
        random = made_up.drawn(method, student)
        tried = [float(score) for score in random.uniform(0.4, 0.7, 3)]
        for factor, score in zip((0.3, 1, 3), tried):
            entry = {"method": method, "distillation": method, "factor": factor, "weight": 25 * factor}
            entry |= {"map_sshp": score + 0.01, "map_ashp": score - 0.01, "score": score, "best_epoch": 20}
            grid.append(entry | {"chosen": score == max(tried)})
    run = {"profile": "made_up", "change": {}, "teacher": teacher, "student": student, "hash_model": hash_model}
    return {
        "kind": "weights",
        "run": run | {"bits": lengths[-1], "seed": 0},
        "lengths": list(lengths),
        "grid": grid,
        "settings": made_up.settings(),
        "provenance": made_up.provenance(),
    }


def comparisons(found: list[Record], seeds: tuple[int, ...], width: float = 0.02) -> Record:
    """BRCD against every other method of the main part, with intervals of one width."""
    means: dict[tuple[Any, ...], list[float]] = {}
    for record in found:
        if record["kind"] == "student" and "main" in record["parts"]:
            run = record["run"]
            for paradigm in ("SSHP", "ASHP"):
                key = (run["teacher"], run["student"], run["hash_model"], run["bits"], paradigm, run["method"])
                means.setdefault(key, []).append(record["metrics"][paradigm.lower()]["map"])
    names = ("teacher", "student", "hash_model", "bits", "paradigm", "method")
    lines = []
    for key, values in means.items():
        if key[-1] != "brcd":
            gain = float(np.mean(means[(*key[:-1], "brcd")]) - np.mean(values))
            line = dict(zip(names, key)) | {"seeds": list(seeds), "queries": 1000, "difference": gain}
            lines.append(line | {"low": gain - width, "high": gain + width, "real": abs(gain) > width})
    run = {"profile": "made_up"}
    return {"kind": "comparisons", "run": run, "against": "brcd", "confidence": 0.95, "lines": lines}
