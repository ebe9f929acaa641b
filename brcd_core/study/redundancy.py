"""How many of a teacher's bits carry meaning: clusters of its codes, undecided bits, and what they cost."""

from __future__ import annotations

import time

import numpy as np

from brcd_core import bits, records
from brcd_core.distillation import brcd
from brcd_core.study import code_version
from brcd_core.study.features import load_inputs
from brcd_core.study.outcome import Report
from brcd_core.study.runs import RedundancyRun
from brcd_core.study.teacher import teacher

CLUSTERS = range(2, 15)  # the range that the paper searched for CIFAR-10
MARGINS = [round(0.05 * step, 2) for step in range(21)]
FRACTIONS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def analyse(run: RedundancyRun, report: Report = print) -> records.Record:
    """Cluster the teacher's codes of the training images, measure every bit, and leave a record.

    Clusters, bit means and masks are those that BRCD's loss uses, from the same function and seed. Classes
    are used to judge the clusters, never to make them. Bits are dropped from the teacher's own codes, query
    against database.
    """
    started = time.perf_counter()
    settings = run.settings
    inputs = load_inputs(settings, {"teacher": run.teacher})
    taught_by = teacher(run.teacher_run(), report)
    train, query, database = inputs.codes(taught_by.head, "teacher", "train", "query", "database")
    labels = inputs.labels
    chosen = settings.distillation_settings()
    if not isinstance(chosen, brcd.Settings):
        chosen = brcd.Settings()  # a profile without BRCD: the published settings

    found = bits.cluster(train, chosen.n_clusters, seed=run.seed)
    means = bits.bit_means(train, found.assignment, chosen.n_clusters)
    report(f"{chosen.n_clusters} clusters of {len(train)} codes; now {CLUSTERS.start} to {CLUSTERS.stop - 1}")
    over_clusters = bits.cluster_scan(
        train, CLUSTERS, labels["train"] if inputs.labelled else None, seed=run.seed
    )
    scan = over_clusters.set_index("clusters")["silhouette"].to_dict()  # none for a number outside the range
    over_margin = bits.redundancy(means, MARGINS).rename(columns={"redundant": "redundant_share"})
    report("dropping bits")
    dropping = bits.drop_effect(
        query, database, labels["query"], labels["database"], found, means, FRACTIONS, settings.evaluation.k, run.seed
    ).to_dict("records") if inputs.labelled else []
    correlation, balance = bits.bit_correlation(train), bits.bit_balance(train)
    sources = inputs.checksums | {"teacher": taught_by.record["checkpoint"]}
    record = {
        "kind": "redundancy",
        "run": run.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "code": code_version.of(run),
        "metrics": {
            "purity": bits.purity(found.assignment, labels["train"]) if inputs.labelled else None,
            "silhouette": scan.get(chosen.n_clusters),
            "redundant_share": float(1 - bits.bit_mask(means, chosen.margin).mean()),
            "mean_abs_balance": float(np.abs(balance).mean()),
            "mean_abs_correlation": float(np.abs(correlation[~np.eye(len(correlation), dtype=bool)]).mean()),
        },
        "analysis": {
            "clusters": chosen.n_clusters,
            "margin": chosen.margin,
            "classes": list(inputs.dataset.classes),
            "sizes": np.bincount(found.assignment, minlength=chosen.n_clusters),
            "class_counts": [labels["train"][found.assignment == c].sum(0) for c in range(chosen.n_clusters)],
            "means": means.round(4),
            "balance": balance.round(4),
            "correlation": correlation.round(3),
            "over_clusters": over_clusters.to_dict("records"),
            "over_margin": over_margin.to_dict("records"),
            "dropping": dropping,
        },
        "provenance": records.provenance(inputs.device, time.perf_counter() - started, sources),
    }
    record = records.plain(record)
    records.write(run.folder, record)
    return record
