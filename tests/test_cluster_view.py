"""One cluster's bits, images and searches, against loops over images and bits; and the figures that show them."""

from __future__ import annotations

from itertools import pairwise, permutations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from synthetic_clusters import CENTRES, CLASSES, made_up

from brcd_core.plots import cluster_masks, images
from brcd_core.study import cluster_view, runs

VIEW = made_up()


def slow_kept(view, cluster, margin):
    own = [code for code, group in zip(view.codes["train"], view.found.assignment) if group == cluster]
    return [abs(sum(int(code[bit]) for code in own) / len(own)) > margin for bit in range(len(own[0]))]


def slow_distances(view, query, kept):
    code = view.codes["query"][query]
    return [sum(a != b for a, b, keep in zip(code, other, kept) if keep) for other in view.codes["database"]]


@pytest.mark.parametrize("margin", [0, 0.4, 0.95, 1])
def test_the_mask_and_the_means_are_those_of_the_clusters_images(margin):
    for cluster in range(CENTRES):
        assert VIEW.kept(cluster, margin).tolist() == slow_kept(VIEW, cluster, margin)
    assert VIEW.overall == pytest.approx([np.mean([code[bit] for code in VIEW.codes["train"]]) for bit in range(16)])


def test_queries_and_images_of_a_cluster():
    centres = VIEW.found.centres
    nearest = [int(np.argmin([np.linalg.norm(c - code) for c in centres])) for code in VIEW.codes["query"]]
    for cluster in range(CENTRES):
        assert VIEW.queries(cluster).tolist() == [q for q, group in enumerate(nearest) if group == cluster]
        away = {
            place: np.linalg.norm(VIEW.codes["train"][place] - centres[cluster])
            for place, group in enumerate(VIEW.found.assignment) if group == cluster
        }  # fmt: skip
        assert VIEW.by_distance(cluster).tolist() == sorted(away, key=lambda place: (round(away[place], 6), place))
    assert nearest.count(VIEW.most_asked()) == max(nearest.count(cluster) for cluster in range(CENTRES))


@pytest.mark.parametrize("bits", [16, 72])
@pytest.mark.parametrize("margin", [0, 0.4, 1])
def test_neighbours_by_the_bits_that_are_kept(bits, margin):
    view = made_up(bits)
    for query in (0, 7):
        kept = view.kept(int(view.member[query]), margin)
        hits, distances = view.neighbours(query, kept, 10), slow_distances(view, query, kept)
        order = sorted(range(len(distances)), key=lambda place: (distances[place], place))[:10]
        assert hits.positions.tolist() == [order]
        assert hits.distances.tolist() == [[distances[place] for place in order]]
        labels = view.dataset.labels
        own = labels[view.ids["query"][query]].argmax()
        assert hits.right.tolist() == [[labels[view.ids["database"][p]].argmax() == own for p in order]]
        last = distances[order[-1]]
        assert view.within(query, kept, last) == sum(distance <= last for distance in distances)


def test_scores_are_the_mean_over_all_orders_of_ties():
    view = made_up(8, {"train": 40, "query": 12, "database": 6}, cut=4)
    cluster = view.most_asked()
    for margin in (0, 0.5, 1):
        kept, expected = view.kept(cluster, margin), []
        for query in view.queries(cluster):
            distances = slow_distances(view, query, kept)
            right = (view.labels("database") & view.labels("query")[query]).any(1)
            found = []
            for order in permutations(range(6)):
                if all(distances[a] <= distances[b] for a, b in pairwise(order)):
                    hits = [bool(right[place]) for place in order[:4]]
                    gains = [sum(hits[: place + 1]) / (place + 1) for place in range(4) if hits[place]]
                    found.append(sum(gains) / max(len(gains), 1))
            expected.append(np.mean(found))
        assert view.scores(cluster, kept) == pytest.approx(expected)


def test_the_mask_figure_hatches_the_redundant_bits_and_names_all_in_order():
    cluster, margin = 1, 0.4
    figure = cluster_view.mask_figure(VIEW, cluster, margin)
    (axes,) = figure.axes
    bars = {round(bar.get_x() + 0.4): bar for bar in axes.patches if bar.get_width() == pytest.approx(0.8)}
    named = [int(text.get_text()) for text in axes.texts]
    assert sorted(named) == list(range(16)) and len(bars) == 16
    heights = [bars[place].get_height() for place in range(16)]
    assert heights == pytest.approx([VIEW.means[cluster, bit] for bit in named])
    assert [abs(height) for height in heights] == sorted([abs(height) for height in heights], reverse=True)
    kept = slow_kept(VIEW, cluster, margin)
    assert [bars[place].get_hatch() is None for place in range(16)] == [kept[bit] for bit in named]
    note = " ".join(figure.texts[1].get_text().split())
    assert f"the {sum(kept)} of 16 bits that the mask keeps" in note and f"the {16 - sum(kept)} redundant" in note


def test_the_images_figure_names_classes_and_makes_others_bold():
    figure = cluster_view.images_figure(VIEW, 0)
    order, labels = VIEW.by_distance(0), VIEW.labels("train").argmax(1)
    own = labels[VIEW.found.assignment == 0]
    main = np.bincount(own).argmax()
    chosen = [*order[:10], *order[10:][::-1][:10]]
    assert len(chosen) == len(set(chosen)) > 10
    shown = [text for text in figure.axes[0].texts if text.get_fontsize() == 7.5]
    for text, place in zip(shown, chosen, strict=True):
        assert text.get_text() == ("a very…" if labels[place] == 2 else CLASSES[labels[place]])
        assert (text.get_weight() == "bold") == (labels[place] != main)
    for drawn, place in zip(figure.axes[0].images, chosen, strict=True):
        assert np.array_equal(drawn.get_array(), VIEW.dataset.pixels[VIEW.ids["train"][place]])
    share = f"{(own == main).mean():.0%} {CLASSES[main]}"
    assert f"{len(own)} of 60 training images: {share}" in " ".join(figure.texts[1].get_text().split())


def test_the_neighbours_figure_shows_both_searches_and_both_scores():
    cluster, margin, place = VIEW.most_asked(), 0.4, 3
    query, kept = VIEW.queries(cluster)[place], VIEW.kept(cluster, margin)
    figure = cluster_view.neighbours_figure(VIEW, cluster, margin, place)
    axes, every = figure.axes[0], np.ones(16, bool)
    hits = [VIEW.neighbours(query, mask) for mask in (every, kept)]
    right = [bool(one) for found in hits for one in found.right[0]]
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    signs = [text.get_text() for text in axes.texts if text.get_text() in "✓✗"]
    assert signs == ["✓" if one else "✗" for one in right] and 0 < sum(right) < len(right)
    colours = [to_hex(frame.get_edgecolor()) for frame in frames]
    assert colours == [images.RIGHT if one else images.WRONG for one in right]
    below = [text.get_text() for text in axes.texts if text.get_fontsize() == 8 and text.get_text().isdigit()]
    assert below == [str(distance) for found in hits for distance in found.distances[0]]
    pixels = [VIEW.dataset.pixels[VIEW.ids["database"][p]] for found in hits for p in found.positions[0]]
    assert all(np.array_equal(a.get_array(), b) for a, b in zip(axes.images[1:], pixels, strict=True))
    assert np.array_equal(axes.images[0].get_array(), VIEW.dataset.pixels[VIEW.ids["query"][query]])
    texts, note = [text.get_text() for text in axes.texts], " ".join(figure.texts[1].get_text().split())
    for mask, found, title in zip((every, kept), hits, ("all 16 bits", f"the {kept.sum()} kept")):
        within = VIEW.within(query, mask, found.distances[0, -1])
        last = found.distances[0, -1]
        lines = f"{found.right.sum()} of 10 right\n{within} within {last} {'bit' if last == 1 else 'bits'}"
        score = VIEW.scores(cluster, mask)
        assert title in texts and f"{lines}\nAP@20 {score[place]:.3f}" in texts
        assert f"{score.mean():.3f} with" in note
    with pytest.raises(IndexError):
        cluster_view.neighbours_figure(VIEW, cluster, margin, len(VIEW.queries(cluster)))


def test_without_labels_nothing_is_right_or_wrong():
    view = made_up(labelled=False)
    cluster = view.most_asked()
    assert view.name(cluster) == f"cluster {cluster}" and not len(view.scores(cluster, view.kept(cluster, 0)))
    mask, shown, found = cluster_view.first_figures(view)
    assert not [text for text in found.axes[0].texts if text.get_text() in ("✓", "✗")]
    assert not any(patch.get_fill() for patch in found.axes[0].patches)
    for figure in (mask, shown, found):
        assert "Bold" not in figure.caption and "mAP" not in figure.caption and "right" not in figure.caption


def test_figures_fit_leave_no_state_and_have_their_captions():
    before = dict(mpl.rcParams)
    views = [made_up(8), VIEW, made_up(64), made_up(128)]
    for figure in (figure for view in views for figure in cluster_view.first_figures(view)):
        assert figure.caption.endswith("about") and figure.title.endswith("?")
        figure.canvas.draw()
        width, height = figure.bbox.size
        for text in [*figure.texts, *figure.axes[0].texts]:
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text.get_text()
        note, top = figure.texts[1].get_window_extent(), figure.axes[0].get_window_extent().y1
        assert note.y0 > top
    assert dict(mpl.rcParams) == before and plt.get_fignums() == []


def test_figures_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="means of K bits twice"):
        cluster_masks.cluster_mask("cluster 0", np.zeros(8), np.zeros(9), 0.5, "codes")
    with pytest.raises(ValueError, match="row 'a': need one name an image, got 2, 1 and 2"):
        cluster_masks.cluster_images("cluster 0", {"a": (np.zeros((2, 4, 4, 3)), ["x"], [True, True])}, "note")


def test_lengths_are_those_of_the_profiles_teacher_and_the_runs_own():
    assert cluster_view.lengths(runs.RedundancyRun(profile="smoke")) == [8, 16]
    assert cluster_view.lengths(runs.RedundancyRun(profile="smoke", bits=24)) == [8, 16, 24]
    assert cluster_view.lengths(runs.RedundancyRun(profile="quick")) == [16, 32, 64]
