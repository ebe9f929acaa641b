"""Command line of the search: make an index of a folder of images, and ask it for the nearest ones."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from brcd_core import encoder
from brcd_core.bars import track
from brcd_core.checkpoints import CheckpointError
from brcd_core.encoder import printable
from brcd_core.fetching import FetchError
from brcd_core.search import index
from brcd_core.search.index import BrokenIndexError
from brcd_core.search.pairs import check_pair, read_origin

REASONS = 10  # that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it went well, 1 with a message if not."""
    parser = argparse.ArgumentParser(prog="python -m brcd_core.search", description="Search images by their codes.")
    commands = parser.add_subparsers(required=True)

    making = commands.add_parser("index", help="encode all images of a folder and its subfolders")
    making.add_argument("folder", type=Path)
    making.add_argument("--head", type=Path, required=True, help="the head that encodes the images, and later queries")
    making.add_argument("--teacher-head", type=Path, help="ASHP: its teacher's head, that encodes the images instead")
    making.add_argument("--out", type=Path, default=Path("index"), help="the index's folder (default: index)")
    making.set_defaults(run=_index)

    asking = commands.add_parser("query", help="print the nearest images of an index, and their Hamming distances")
    asking.add_argument("images", nargs="+", metavar="IMAGE")
    asking.add_argument("--index", type=Path, default=Path("index"), help="the index's folder (default: index)")
    asking.add_argument("--head", type=Path, help="where the head of the queries is now, or another one of its teacher")
    asking.add_argument("-k", type=int, default=10, help="hits an image (default: 10)")
    asking.set_defaults(run=_query)

    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # of damaged files, which are counted
            return int(chosen.run(chosen))
    except (BrokenIndexError, CheckpointError, FetchError, ValueError, OSError) as error:
        print("error:", printable(error, keep="\n"), file=sys.stderr)
        return 1


def _index(chosen: argparse.Namespace) -> int:
    names = index.files_of(chosen.folder)
    encodes = chosen.teacher_head or chosen.head
    check_pair(read_origin(chosen.head), read_origin(encodes))
    coder = encoder.load(encodes)
    folder = chosen.folder.resolve()
    with track(len(names), f"encoding {printable(folder.name)}", unit="file") as bar:
        made = index.build(coder, folder, chosen.head.resolve(), names, bar.update)
    _tell(made.skipped, len(names))
    if not made.names:
        raise ValueError(f"{folder} holds no image that can be read ({len(names)} files)")
    index.write(made, chosen.out)
    print(f"{printable(chosen.out)}: {len(made.names):,} images, encoded by the {printable(made.origin.words())}")
    return 0


def _query(chosen: argparse.Namespace) -> int:
    found = index.read(chosen.index)
    head = chosen.head or found.query_head
    if not head.exists():
        raise CheckpointError(f"there is no head {head}; say where it is with --head")
    check_pair(read_origin(head), found.origin)
    coder = encoder.load(head)
    skipped: dict[str, str] = {}
    for good, packed, problems in index.encode_files(coder, Path(), chosen.images):
        skipped |= problems
        for name, *hits in zip(good, *found.nearest(packed, chosen.k), strict=True):
            print(printable(name))
            for position, distance in zip(*hits, strict=True):
                print(f"{distance:5}  {printable(found.folder / found.names[position])}")
    _tell(skipped, len(chosen.images))
    return 1 if skipped else 0


def _tell(skipped: Mapping[str, str], files: int) -> None:
    """Say how many files were left out and why, and name one for each reason."""
    if not skipped:
        return
    reasons = Counter(skipped.values())
    example = {reason: name for name, reason in reversed(list(skipped.items()))}
    print(f"{len(skipped):,} of {files:,} files were left out:", file=sys.stderr)
    for reason, count in reasons.most_common(REASONS):
        print(f"{count:7,}  {printable(reason)} ({printable(example[reason])})", file=sys.stderr)
    if len(reasons) > REASONS:
        print(f"         and {len(reasons) - REASONS:,} more reasons", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
