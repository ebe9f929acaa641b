"""A small factory of records, in the form that the study's runs leave them, with numbers that are made up."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
LEVEL = {  # mAP of SSHP and ASHP at 16 bits
    "alone": (0.70, 0.25), "rkd": (0.72, 0.60), "brcd": (0.76, 0.78), "brcd_no_mask": (0.75, 0.77),
    "kl": (0.74, 0.75), "pkt": (0.72, 0.26), "sp": (0.73, 0.24), "crd": (0.71, 0.27), "crcd": (0.71, 0.25),
    "sskd": (0.69, 0.26), "packd": (0.715, 0.3), "logits": (0.755, 0.77), "bits": (0.757, 0.782),
    "probabilities": (0.752, 0.775), "sp-released": (0.70, 0.25),
    "brcd-no-structural": (0.74, 0.77), "brcd-no-clusters": (0.73, 0.76), "brcd-redundant-bits": (0.72, 0.74),
    "brcd-own-masks": (0.758, 0.779), "brcd-zero-mask": (0.735, 0.76),
}  # fmt: skip
CLOSED_FORM = ("itq",)
METHODS = (
    "alone", "bits", "crcd", "crd", "kl", "logits", "packd", "pkt", "probabilities", "rkd", "sp", "sskd", "brcd",
)  # fmt: skip
BRCD = {
    "alpha": 0.8, "margin": 0.5, "n_clusters": 10, "temperature": 0.3, "weight": 1.0, "mask": "decided",
    "structural": True, "clusters": True, "released": {"zero_mask": False, "own_masks": False},
}  # fmt: skip
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def settings(distillation: str = "none", **change: Any) -> Record:
    """Resolved settings of a run."""
    network = {"feature": "penultimate", "hidden": 0, "training": {"epochs": 100, "batch": 64}}
    return {
        "data": {"dataset": "cifar10", "train": 5000, "validation": 1000, "query": 1000, "database": 50000},
        "views": {"count": 16, "size": 112, "seed": 0, "augmentation": {}},
        "teacher": network,
        "student": copy.deepcopy(network) | {"hidden": 1000},
        "hash_model": {"name": "cibhash", "settings": {}},
        "distillation": {"name": distillation, "settings": {}},
        "select": "mean",
        "evaluation": {"k": 1000, "precision_at": [1, 10, 100, 1000]},
    } | change


def study(
    methods: tuple[str, ...] = ("alone", "rkd", "brcd", "brcd_no_mask"),
    students: tuple[str, ...] = ("resnet18",),
    bits: tuple[int, ...] = (16, 32, 64),
    seeds: tuple[int, ...] = (0, 1, 2),
    teacher: str = "dinov2_vits14",
) -> list[Record]:
    """All records of a made-up study: features, teachers, students, and one analysis of the bits a length."""
    found = [features(name) for name in (teacher, *students)]
    found += [teacher_record(teacher, length, seed) for length in bits for seed in seeds]
    found += [
        student_record(teacher, student, method, length, seed)
        for student in students for method in methods for length in bits for seed in seeds
    ]  # fmt: skip
    return found + [redundancy(teacher, length) for length in bits]


def drawn(*names: str | int) -> np.random.Generator:
    """Random numbers of a run's own."""
    return np.random.default_rng(list(" ".join(map(str, names)).encode()))


def provenance() -> Record:
    return {
        "git_revision": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "packages": {"torch": "2.11.0", "numpy": "2.4.0"},
        "python": "3.11.9",
        "device": "a processor, 2 cores",
        "threads": 2,
        "finished": "2026-01-01T00:00:00+00:00",
        "seconds": 12.5,
        "inputs": {"data": "d" * 64, "weights": {"dinov2_vits14": "a" * 64}, "banks": {"train-x": "c" * 64}},
    }


def features(backbone: str) -> Record:
    sizes = {"train": [16, 5000, 384], "query": [1, 1000, 384], "database": [1, 50000, 384]}
    role = "teacher" if "vit" in backbone else "student"
    return {
        "kind": "features",
        "run": {"profile": "made_up", "change": {}, "backbone": backbone},
        "settings": settings(),
        "metrics": {
            "nearest_neighbour": 0.9 if "vit" in backbone else 0.7,
        },
        "banks": {
            f"{role} {split}": {"split": split, "shape": shape, "checksum": "c" * 64, "megabytes": 61.4}
            for split, shape in sizes.items()
        },
        "efficiency": efficiency(backbone),
        "provenance": provenance(),
    }


def efficiency(backbone: str) -> Record:
    large = 8 if "vit" in backbone else 1
    return {
        "parameters": 2_750_000 * large + len(backbone),
        "multiply_adds": 450_000_000 * large,
        "megabytes": 11.0 * large,
        "latency_ms": 7.5 * large,
        "images_per_second": 200.0 / large,
        "batch": 64,
        "threads": 1,
        "size": 112,
        "device": "a processor, 2 cores",
    }


def teacher_record(
    teacher: str, bits: int, seed: int, hash_model: str = "cibhash", parts: tuple[str, ...] = ("main",)
) -> Record:
    random = drawn(teacher, hash_model, bits, seed)
    level = 0.80 + 0.02 * np.log2(bits / 16) + random.normal(0, 0.004)
    run = {"profile": "made_up", "change": {}, "teacher": teacher, "hash_model": hash_model, "bits": bits, "seed": seed}
    return {
        "kind": "teacher",
        "run": run,
        "parts": list(parts),
        "settings": settings(hash_model={"name": hash_model, "settings": {}}),
        "metrics": {"teacher": measures(level)},
        "curves": {"teacher": curves(level, bits)},
        "training": training({"map": level}, random, hash_model),
        "provenance": provenance(),
    }


def student_record(
    teacher: str, student: str, method: str, bits: int, seed: int,
    hash_model: str = "cibhash", parts: tuple[str, ...] = ("main",), change: dict[str, Any] | None = None,
) -> Record:  # fmt: skip
    """A student's record; `change`: settings of its distillation other than the method's own."""
    random = drawn(teacher, hash_model, student, method, bits, seed)
    shift = 0.02 * np.log2(bits / 16) - 0.01 * (len(student) % 5)
    sshp, ashp = (level + shift + random.normal(0, 0.008) for level in LEVEL.get(method, (0.72, 0.74)))
    run = {"profile": "made_up", "change": {}, "teacher": teacher, "hash_model": hash_model, "student": student}
    name = {"alone": "none"}.get(method, re.split("[-_]", method)[0])
    own = {"none": {}, "brcd": BRCD}.get(name, {"weight": 25.0, "released": {"over_bits": False}}) | (change or {})
    hash_models = {"name": hash_model, "settings": {}}
    return {
        "kind": "student",
        "run": run | {"method": method, "bits": bits, "seed": seed},
        "parts": list(parts),
        "settings": settings(name, select="sshp" if method == "alone" else "mean", hash_model=hash_models),
        "resolved": {"hash_model": {"temperature": 0.3}, "distillation": own},
        "metrics": {"sshp": measures(sshp), "ashp": measures(ashp)},
        "curves": {"sshp": curves(sshp, bits), "ashp": curves(ashp, bits)},
        "training": training({"map_sshp": sshp, "map_ashp": ashp}, random, hash_model),
        "provenance": provenance(),
    }


def measures(level: float) -> dict[str, float]:
    return {
        "map": level,
        "map_stable": level + 0.0003,
        "precision_at_k": level - 0.04,
        "lookup_precision": level - 0.3,
        "lookup_empty": 0.9 - level,
    }


def curves(level: float, bits: int) -> dict[str, list[float]]:
    """Like real ones: near queries find little within radius 0, all find everything within radius K."""
    radius = np.arange(bits + 1) / bits
    recall = 1 / (1 + np.exp(-14 * (radius - 0.35)))
    recall = (recall - recall[0]) / (recall[-1] - recall[0])
    precision = (0.1 + (level - 0.1) * (1 - recall**3)) * (1 - 0.5 * np.exp(-20 * radius))
    return {
        "precision_at": [level + 0.05, level + 0.03, level + 0.01, level - 0.04],
        "precision": precision.tolist(),
        "recall": recall.tolist(),
    }


def training(last: dict[str, float], random: np.random.Generator, hash_model: str) -> Record:
    """A history that rises towards the validation scores `last` and is stopped a little after its best."""
    if hash_model in CLOSED_FORM:
        history = [{"epoch": 0, **last}]
        return {"best_epoch": 0, "epochs": 0, "steps": 0, "seconds": 0.1, "validation": last, "history": history}
    best, history = int(random.integers(6, 14)) * 5, []
    for epoch in range(5, best + 20, 5):
        rise = 1 - 0.5 * np.exp(-epoch / 12) - 0.0006 * abs(epoch - best)
        scores = {name: value * rise + random.normal(0, 0.002) for name, value in last.items()}
        history.append({"epoch": epoch, "loss": 2 * np.exp(-epoch / 20) + 1, **scores})
    chosen = next(line for line in history if line["epoch"] == best)
    return {
        "best_epoch": best,
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["epoch"] * 79,
        "seconds": round(float(random.uniform(20, 30)), 2),
        "validation": {name: chosen[name] for name in last},
        "history": history,
    }


def view_counts(
    teacher: str, student: str, bits: int, counts: Sequence[int] = (1, 2, 5, 10), seeds: Sequence[int] = (0, 1, 2)
) -> Record:
    """A comparison of numbers of views: scores rise towards those of views that are read once."""
    rows = []
    for views in (*counts, "once"):
        for seed in seeds:
            random, lack = drawn("views", views, bits, seed), 0 if views == "once" else 0.05 / views
            levels = {"teacher": 0.84, "sshp": 0.77, "ashp": 0.8}
            row = {f"map_{name}": level - lack + random.normal(0, 0.002) for name, level in levels.items()}
            for name, level in levels.items():  # rise more slowly, so that who confuses the splits is found
                row[f"validation_map_{name}"] = level - 0.02 - 1.6 * lack + random.normal(0, 0.001)
            epochs = {"teacher": 16 + 4 * seed, "student": 20}
            for role, count in epochs.items():
                row |= {f"epochs_{role}": count, f"best_epoch_{role}": count - 8}
                row[f"images_{role}"] = 5000 * (2 * count if views == "once" else views)
            if views == "once":
                row["images_teacher"] += row["images_student"]
            rows.append({"views": views, "seed": seed} | row)
    run = {"profile": "made_up", "change": {}, "teacher": teacher, "student": student, "hash_model": "cibhash"}
    run |= {"method": "brcd", "bits": bits, "counts": list(counts), "once": True, "seeds": list(seeds)}
    return {
        "kind": "view_counts",
        "run": run,
        "settings": settings("brcd"),
        "measure": "map",
        "weight_views": settings("brcd")["views"],
        "rows": rows,
        "metrics": {},
        "provenance": provenance(),
    }


def redundancy(teacher: str, bits: int, clusters: int = 10, seed: int = 0) -> Record:
    """An analysis of codes that are drawn round one centre a class, in the record's form."""
    random = np.random.default_rng([bits, clusters])
    labels = np.arange(2000) % len(CLASSES)
    lean = random.uniform(-1, 1, (clusters, bits)) * random.uniform(0.5, 1, bits)
    moved = np.where(random.random(2000) < 0.15, (labels + random.integers(1, 3, 2000)) % 10, labels)
    assignment = random.permutation(clusters)[moved % clusters]
    codes = np.where(random.random((2000, bits)) < (1 + lean[assignment]) / 2, 1, -1)
    means = np.array([codes[assignment == c].mean(axis=0) for c in range(clusters)])
    counts = np.array([np.bincount(labels[assignment == c], minlength=10) for c in range(clusters)])
    balance, correlation = codes.mean(axis=0), np.corrcoef(codes.T)
    margins = np.round(np.arange(0.1, 1, 0.1), 1)
    share = [float((np.abs(means) <= margin).mean()) for margin in margins]
    off = correlation[~np.eye(bits, dtype=bool)]
    return {
        "kind": "redundancy",
        "run": {
            "profile": "made_up", "change": {}, "teacher": teacher, "hash_model": "cibhash", "bits": bits, "seed": seed,
        },
        "settings": settings(),
        "metrics": {
            "purity": float(counts.max(axis=1).sum() / 2000),
            "redundant_share": float((np.abs(means) <= 0.5).mean()),
            "mean_abs_balance": float(np.abs(balance).mean()),
            "mean_abs_correlation": float(np.abs(off).mean()),
        },
        "analysis": {
            "over_clusters": [
                {
                    "clusters": n,
                    "inertia": 40000 + 90000 / n + 2000 * max(0, 10 - n),
                    "silhouette": 0.21 - 0.012 * abs(n - 10),
                    "purity": min(0.84, 0.085 * n) + 0.001 * n,
                }
                for n in range(2, 15)
            ],
            "over_margin": [
                {"margin": float(m), "redundant_share": s} for m, s in zip(margins, share, strict=True)
            ],
            "margin": 0.5,
            "clusters": clusters,
            "classes": CLASSES,
            "sizes": counts.sum(axis=1).tolist(),
            "class_counts": counts.tolist(),
            "means": means.tolist(),
            "balance": balance.tolist(),
            "correlation": correlation.tolist(),
            "dropping": [
                {"fraction": f, "dropped": name, "map": 0.1 + 0.72 * (1 - f) ** power}
                for f in (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
                for name, power in (("most redundant", 0.1), ("random", 0.3), ("least redundant", 0.9))
            ],
        },
        "provenance": provenance(),
    }
