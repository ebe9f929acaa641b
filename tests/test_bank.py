"""The view bank: right features, resumed after a stop, shared between processes, and verified when opened."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from brcd_core import bars
from brcd_core.hashing import HashHead
from brcd_core.training import Training, fit
from brcd_core.views import bank as bank_module
from brcd_core.views import chunked
from brcd_core.views.augmentation import Augmentation, augment, clean
from brcd_core.views.bank import BankError, BankSettings, build, ids_checksum, native_precision, open_bank
from brcd_core.views.sources import BankViews, FreshViews

SIZE, DIM = 16, 6
IDS = np.array([3, 14, 15, 9, 26, 5, 35])
IMAGES = torch.randint(0, 256, (40, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def read_images(ids: np.ndarray) -> Tensor:
    return IMAGES[torch.from_numpy(ids)]


class Encoder(nn.Module):
    """A fixed linear map of the pixels' means over a 2 x 2 grid. Counts rows; fails after `limit` calls."""

    def __init__(self, dim: int = DIM, seed: int = 1, limit: int = 10**6) -> None:
        super().__init__()
        weight = torch.randn(12, dim, generator=torch.Generator().manual_seed(seed))
        self.weight, self.limit, self.calls, self.rows = weight, limit, 0, 0

    def forward(self, pixels: Tensor) -> Tensor:
        if self.calls == self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        self.rows += len(pixels)
        return nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1) @ self.weight


def settings_for(ids: np.ndarray = IDS, **changes: object) -> BankSettings:
    values: dict[str, object] = {
        "dataset": "toy",
        "data_fingerprint": "d" * 64,
        "split": "train",
        "ids_checksum": ids_checksum(ids),
        "count": len(ids),
        "backbone": "linear",
        "feature": "penultimate",
        "weights_checksum": "w" * 64,
        "dim": DIM,
        "size": SIZE,
        "views": 3,
        "augmentation": Augmentation(),
        "seed": 4,
        "precision": "float32",
    }
    return BankSettings(**(values | changes))  # type: ignore[arg-type]


CLEAN = {"views": 0, "augmentation": None, "seed": 0}


def row_by_row(asked: BankSettings, ids: np.ndarray, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """The oracle: one image in one view at a time, (V, N, D)."""
    out = torch.empty(asked.shape)
    for view in range(asked.shape[0]):
        for place, number in enumerate(ids):
            image = IMAGES[number : number + 1]
            if asked.augmentation is None:
                pixels = clean(image, asked.size)
            else:
                pixels = augment(image, [number], view, asked.size, asked.seed, asked.augmentation)
            out[view, place] = encode(pixels)[0]
    return out


@pytest.mark.parametrize("changes", [{}, CLEAN, {"views": 1}])
def test_features_are_those_of_each_image_and_view(tmp_path: Path, changes: dict[str, object]) -> None:
    asked = settings_for(**changes)
    made = build(asked, IDS, read_images, Encoder(), tmp_path, batch=3, chunk=5)
    expected = row_by_row(asked, IDS, Encoder())
    assert made.features.shape == asked.shape
    assert made.features.dtype == np.float16
    torch.testing.assert_close(made.tensor().float(), expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(made.view(0), made.features[0])
    assert made.tensor().dtype == torch.float16


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, 39), min_size=1, max_size=9, unique=True),
    st.integers(0, 2),
    st.integers(1, 7),
    st.integers(2, 9),
    st.integers(0, 8),
)
def test_stopped_anywhere_and_resumed_gives_the_same_bank(
    tmp_path_factory: pytest.TempPathFactory,
    numbers: list[int],
    views: int,
    batch: int,
    chunk: int,
    stop: int,
) -> None:
    ids, folder = np.array(numbers), tmp_path_factory.mktemp("bank")
    asked = settings_for(ids, **({"views": views} if views else CLEAN))
    try:
        build(asked, ids, read_images, Encoder(limit=stop), folder, batch=batch, chunk=chunk)
    except KeyboardInterrupt:
        assert not (folder / asked.name).exists()
    made = build(asked, ids, read_images, Encoder(), folder, batch=batch, chunk=chunk)
    expected = row_by_row(asked, ids, Encoder())
    torch.testing.assert_close(made.tensor().float(), expected, rtol=1e-3, atol=1e-3)
    assert sorted(path.name for path in (folder / asked.name).iterdir()) == ["features.npy", "meta.json"]


def stopped(folder: Path, asked: BankSettings, calls: int) -> Path:
    """A build of 21 rows in chunks of 4 that was killed after so many batches of 2; its partial folder."""
    with pytest.raises(KeyboardInterrupt):
        build(asked, IDS, read_images, Encoder(limit=calls), folder, batch=2, chunk=4)
    return folder / f"{asked.name}.partial"


def test_finished_chunks_are_not_encoded_again(tmp_path: Path) -> None:
    asked, reported = settings_for(), []
    stopped(tmp_path, asked, calls=7)  # three whole chunks, and half of the fourth
    with pytest.raises(FileNotFoundError, match="build it first"):
        open_bank(tmp_path, asked)
    encoder = Encoder()
    build(asked, IDS, read_images, encoder, tmp_path, batch=2, chunk=4, report=reported.append)
    assert encoder.rows == 21 - 12
    assert reported == [4, 4, 4, 4, 4, 1]
    again = Encoder()
    build(asked, IDS, read_images, again, tmp_path)
    assert again.calls == 0


@pytest.mark.parametrize("damage", ["data", "journal", "torn", "file"])
def test_a_chunk_that_is_not_proven_whole_is_encoded_again(tmp_path: Path, damage: str) -> None:
    asked = settings_for()
    partial = stopped(tmp_path, asked, calls=6)
    features, journal = partial / chunked.FILE, partial / chunked.JOURNAL
    if damage == "data":  # in the second row of the second chunk
        content = bytearray(features.read_bytes())
        content[len(content) - 21 * DIM * 2 + 5 * DIM * 2] ^= 1
        features.write_bytes(content)
    elif damage == "journal":  # another checksum for the first chunk
        text = journal.read_text()
        journal.write_text(text.replace(text.split()[2], "0" * 64))
    elif damage == "torn":  # the last line was cut short
        journal.write_text(journal.read_text().rstrip()[:-3])
    else:
        features.write_bytes(features.read_bytes()[:-1])
    again = 21 if damage == "file" else 21 - 12 + 4
    # Stopped a second time, after one chunk, so that a line was added behind the damage.
    stopped(tmp_path, asked, calls=2)
    encoder = Encoder()
    made = build(asked, IDS, read_images, encoder, tmp_path, batch=2, chunk=4)
    assert encoder.rows == again - 4
    expected = row_by_row(asked, IDS, Encoder())
    torch.testing.assert_close(made.tensor().float(), expected, rtol=1e-3, atol=1e-3)


def test_full_disk_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, syncs = settings_for(), []

    def full(file: object) -> None:
        syncs.append(file)
        if len(syncs) > 4:  # two chunks, each synced with its line of the journal
            raise OSError(errno.ENOSPC, "No space left on device")
        to_disk(file)

    to_disk = chunked._to_disk
    monkeypatch.setattr(chunked, "_to_disk", full)
    with pytest.raises(BankError, match=f"no space left in {tmp_path}.*free some space"):
        build(asked, IDS, read_images, Encoder(), tmp_path, batch=2, chunk=4)
    monkeypatch.undo()
    encoder = Encoder()
    build(asked, IDS, read_images, encoder, tmp_path, batch=2, chunk=4)
    assert encoder.rows == 21 - 8


def test_full_disk_at_the_very_end_keeps_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bank_module, "write_text", full)
    with pytest.raises(BankError, match="no space left"):
        build(settings_for(), IDS, read_images, Encoder(), tmp_path)
    monkeypatch.undo()
    encoder = Encoder()
    build(settings_for(), IDS, read_images, encoder, tmp_path)
    assert encoder.calls == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_features_that_are_not_finite_stop_the_build(tmp_path: Path, value: float) -> None:
    asked, victim = settings_for(), augment(IMAGES[9:10], [9], 1, SIZE, 4, Augmentation())

    class Broken(Encoder):
        def forward(self, pixels: Tensor) -> Tensor:
            same = (pixels - victim).abs().amax(dim=(1, 2, 3)) < 1e-5
            return super().forward(pixels).masked_fill(same[:, None], value)

    with pytest.raises(BankError, match=r"linear gives NaN or .* for 1 of 2 rows: image 9 view 1\."):
        build(asked, IDS, read_images, Broken(), tmp_path, batch=2, chunk=4)
    assert not (tmp_path / asked.name).exists()
    build(asked, IDS, read_images, Encoder(), tmp_path, batch=2, chunk=4)


def test_wrong_ids_or_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not those of its settings"):
        build(settings_for(), IDS[::-1], read_images, Encoder(), tmp_path)
    with pytest.raises(ValueError, match=r"linear gives \(7, 5\), not \(7, 6\)"):
        build(settings_for(**CLEAN), IDS, read_images, Encoder(dim=5), tmp_path)


def test_a_damaged_bank_is_not_opened(tmp_path: Path) -> None:
    asked = settings_for()
    build(asked, IDS, read_images, Encoder(), tmp_path)
    folder = tmp_path / asked.name
    features, meta = folder / "features.npy", folder / "meta.json"
    good_features, good_meta = features.read_bytes(), meta.read_text()

    def refused(match: str) -> None:
        for act in (
            lambda: open_bank(tmp_path, asked),
            lambda: build(asked, IDS, read_images, Encoder(), tmp_path),
        ):
            with pytest.raises(BankError, match=match) as error:
                act()
            assert str(folder) in str(error.value)
            assert "run again" in str(error.value)

    flipped = bytearray(good_features)
    flipped[-1] ^= 1
    features.write_bytes(flipped)
    refused("features.npy is damaged")
    features.write_bytes(good_features[:-2])
    refused("features.npy is damaged")
    features.unlink()
    refused("features.npy is damaged")
    features.write_bytes(good_features)
    open_bank(tmp_path, asked)

    meta.write_text(good_meta[:-5])
    refused("meta.json is missing or damaged")
    changed = json.loads(good_meta)
    changed["settings"]["seed"] = 99
    meta.write_text(json.dumps(changed))
    refused("seed is 99, not 4")
    del changed["settings"]
    meta.write_text(json.dumps(changed))
    refused("meta.json is missing or damaged")
    meta.unlink()
    refused("meta.json is missing or damaged")

    # Whole by its checksum, yet not finite: as if an older version had written it.
    poisoned = np.load(features.with_name("features.npy"))
    poisoned[8, 2] = np.nan
    np.save(features, poisoned)
    changed = json.loads(good_meta) | {"sha256": bank_module.sha256_of(features)}
    meta.write_text(json.dumps(changed))
    refused("NaN or infinite features in view 1")


def test_every_setting_is_part_of_the_name() -> None:
    others: dict[str, object] = {
        "dataset": "other",
        "data_fingerprint": "e" * 64,
        "split": "query",
        "ids_checksum": "0",
        "count": 8,
        "backbone": "mlp",
        "feature": "logits",
        "weights_checksum": "x" * 64,
        "dim": 7,
        "size": 32,
        "views": 2,
        "augmentation": Augmentation(flip=0.4),
        "seed": 5,
        "precision": "bfloat16",
        "central": 0.5,
        "rotated": True,
        "train_mode_batch": 64,
        "version": 10**6,
        "backbone_version": 10**6,
    }
    assert others.keys() == BankSettings.model_fields.keys()
    names = {settings_for(**{name: value}).name for name, value in others.items()} | {settings_for().name}
    assert len(names) == len(others) + 1
    assert settings_for().name.startswith("linear-train-3-")


@pytest.mark.parametrize(
    "wrong",
    [{"views": 0}, {"rotated": True, "views": 2}, {"augmentation": None}, CLEAN | {"seed": 1}, {"color": 1}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings_for(**wrong)


def build_and_log(folder: Path, barrier: object, log: Path) -> None:
    """One of two processes; a line in the log for each row that it encoded."""
    torch.set_num_threads(1)  # a forked process cannot use the threads of its parent
    encoder = Encoder()
    barrier.wait()  # type: ignore[attr-defined]
    made = build(settings_for(), IDS, read_images, encoder, folder, batch=1, chunk=1)
    with log.open("a") as file:
        file.write(f"{encoder.rows} {made.checksum}\n")


def test_two_processes_build_one_bank(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # importing torch twice more would take seconds
    barrier, log = context.Barrier(2), tmp_path / "log"
    pair = [context.Process(target=build_and_log, args=(tmp_path, barrier, log)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
    assert [process.exitcode for process in pair] == [0, 0]
    rows, checksums = zip(*(line.split() for line in log.read_text().splitlines()))
    assert sorted(map(int, rows)) == [0, 21]  # one of them built, the other waited
    assert set(checksums) == {open_bank(tmp_path, settings_for()).checksum}


def test_bfloat16_is_used_where_asked(tmp_path: Path) -> None:
    seen = []

    class Convolution(Encoder):
        def forward(self, pixels: Tensor) -> Tensor:
            out = nn.functional.conv2d(pixels, torch.ones(DIM, 3, 1, 1))
            seen.append(
                (out.dtype, pixels.is_contiguous(memory_format=torch.channels_last), out.requires_grad)
            )
            return out.mean(dim=(2, 3))

    for precision, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        seen.clear()
        build(settings_for(precision=precision), IDS, read_images, Convolution(), tmp_path)
        assert set(seen) == {(dtype, True, False)}


def test_native_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for amx, expected in [(True, "bfloat16"), (False, "float32")]:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=amx: answer, raising=False)
        assert native_precision("cpu") == expected
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert native_precision("cpu") == "float32"
    assert native_precision("mps") == "float32"


def two_sources(folder: Path) -> tuple[BankViews, FreshViews]:
    """Banked and fresh views of two backbones of different width."""
    encoders = [Encoder(), Encoder(dim=4, seed=2)]
    banks = [
        build(
            settings_for(dim=e.weight.shape[1], backbone=f"b{e.weight.shape[1]}"), IDS, read_images, e, folder
        )
        for e in encoders
    ]
    fresh = FreshViews(
        read_images,
        IDS,
        encoders,
        size=SIZE,
        seed=4,
        augmentation=Augmentation(),
        precision="float32",
    )
    return BankViews(banks), fresh


def test_fresh_views_are_those_of_the_bank(tmp_path: Path) -> None:
    banked, fresh = two_sources(tmp_path)
    assert banked.count == 3
    assert fresh.count is None
    images, views = torch.tensor([6, 0, 0, 3, 2]), torch.tensor([0, 1, 2, 2, 0])
    first, second = banked.batch(images, views), fresh.batch(images, views)
    assert [tuple(f.shape) for f in first] == [(5, 6), (5, 4)]
    for ours, theirs in zip(first, second):
        assert ours.dtype == theirs.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert (first[0][1] - first[0][2]).abs().max() > 1e-2  # another view of the same image


def read_by(source: BankViews | FreshViews, epochs: int) -> list[list[tuple[list[int], list[int], list[Tensor]]]]:
    """What training asks of a source, epoch by epoch: (image positions, view numbers, features) of every batch."""
    asked: list[tuple[list[int], list[int], list[Tensor]]] = []
    batch = source.batch

    def noted(images: Tensor, views: Tensor) -> list[Tensor]:
        asked.append((images.tolist(), views.tolist(), batch(images, views)))
        return asked[-1][2]

    source.batch = noted  # type: ignore[method-assign]
    head = HashHead(DIM, 8, seed=0)
    fit(
        head, source, len(IDS), lambda images, i, j: head(i[0]).square().mean(), lambda: {"map": 0.0},
        Training(epochs=epochs, batch=4), select=lambda scores: scores["map"], seed=5, report=lambda line: None,
    )  # fmt: skip
    a_epoch = len(asked) // epochs
    return [asked[start : start + a_epoch] for start in range(0, len(asked), a_epoch)]


def test_views_that_are_read_once_are_the_fresh_ones(tmp_path: Path) -> None:
    encoder = Encoder()
    banks = [build(settings_for(views=6), IDS, read_images, encoder, tmp_path)]
    fresh = FreshViews(
        read_images, IDS, [encoder], size=SIZE, seed=4, augmentation=Augmentation(), precision="float32"
    )
    ours, theirs = read_by(BankViews(banks, once=True), 3), read_by(fresh, 3)
    for epoch, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert {view for _, views, _ in one for view in views} == {2 * epoch, 2 * epoch + 1}
        for (images, views, features), (their_images, their_views, their_features) in zip(one, other, strict=True):
            assert (images, views) == (their_images, their_views)
            torch.testing.assert_close(features, their_features, rtol=1e-3, atol=1e-3)


def test_training_reads_no_view_but_those_that_are_used(tmp_path: Path) -> None:
    large = build(settings_for(views=6), IDS, read_images, Encoder(), tmp_path)
    small = build(settings_for(views=3), IDS, read_images, Encoder(), tmp_path)
    ours, theirs = read_by(BankViews([large], used=3), 8), read_by(BankViews([small]), 8)
    assert {view for epoch in ours for _, views, _ in epoch for view in views} == {0, 1, 2}
    for one, other in zip(ours, theirs, strict=True):
        for (images, views, features), (their_images, their_views, their_features) in zip(one, other, strict=True):
            assert (images, views) == (their_images, their_views)
            assert features[0].equal(their_features[0])
    (alone,) = read_by(BankViews([large], used=1), 1)
    assert {view for _, views, _ in alone for view in views} == {0}
    with pytest.raises(ValueError, match="7 views of each image are to be used, the banks have 6"):
        BankViews([large], used=7)


def test_a_head_can_be_trained_on_either_source(tmp_path: Path) -> None:
    for source in two_sources(tmp_path):
        head = nn.Linear(DIM, 2)
        head(source.batch(torch.tensor([0, 1]), torch.tensor([0, 1]))[0]).square().sum().backward()
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0


def test_pixels_are_computed_once_for_all_encoders() -> None:
    seen: list[Tensor] = []
    fresh = FreshViews(
        read_images,
        IDS,
        [lambda p: seen.append(p) or p.mean(dim=(2, 3))] * 2,  # type: ignore[func-returns-value]
        size=SIZE,
        seed=0,
        augmentation=Augmentation(),
        precision="float32",
    )
    fresh.batch(torch.tensor([1, 2]), torch.tensor([7, 10**9]))
    assert seen[0].equal(seen[1])


def test_banks_of_different_views_are_not_mixed(tmp_path: Path) -> None:
    first = build(settings_for(), IDS, read_images, Encoder(), tmp_path)
    other = build(settings_for(seed=5), IDS, read_images, Encoder(), tmp_path)
    plain = build(settings_for(**CLEAN), IDS, read_images, Encoder(), tmp_path)
    larger = build(settings_for(size=24, backbone="wide"), IDS, read_images, Encoder(), tmp_path)
    with pytest.raises(ValueError, match=r"differ in seed.*\[4, 5\]"):
        BankViews([first, other])
    with pytest.raises(ValueError, match="augmented views"):
        BankViews([plain])
    assert BankViews([first, larger]).count == 3  # each backbone has its own input size


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A standard error that says it is a terminal."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_progress_is_plain_lines_in_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.setenv("BRCD_BATCH", "1")
    monkeypatch.setattr(bars, "LINE_EVERY_SECONDS", 0.0)
    with bars.track(6, "bank", "view") as bar:
        for _ in range(3):
            bar.update(2)
    assert list(bars.track([1, 2], "list")) == [1, 2]
    printed = stream.getvalue()
    assert "\r" not in printed
    lines = printed.splitlines()
    assert all(line.startswith(("bank: ", "list: ")) for line in lines)
    assert sum("2/6" in line for line in lines) == 1
    assert "6/6" in [line for line in lines if line.startswith("bank")][-1]
    assert "2/2" in lines[-1]


def test_progress_is_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.delenv("BRCD_BATCH", raising=False)
    assert list(bars.track(range(3), "list")) == [0, 1, 2]
    assert stream.getvalue().startswith("\rlist: ")


def test_progress_in_batch_is_silent_between_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in bars.track(range(10_000), "many"):
        pass
    assert len(capsys.readouterr().err.splitlines()) == 2  # the first line and the last
