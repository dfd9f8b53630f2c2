#!/usr/bin/env python
"""Time the writing of tar shards with both hashes, and random reads, beside the usual ways.

    scripts/bench_shards.py [--rounds R] [--pictures N]

2,000 pictures and 40 volumes (bytes that cannot be packed, sizes as of PNG and .nii.gz), shards of
64 MiB. Ours hashes every file and every shard with SHA-256; tarfile and WebDataset hash nothing.
All files lie in memory where the system has /dev/shm, so that no disk is measured and syncing,
which only ours does, is free. Shards are read back by tarfile before any time is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import webdataset
from benchlib import in_turn, medians, scratch, targets

from fusion.bundle.shards import Item, Sample, Shard, write_shards

CAP = 64 << 20
COPY, OURS = "copy of one file of the same size", "ours, SHA-256 of file and shard"
READS = 400


def make_files(folder: Path, pictures: int) -> list[Path]:
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(30_000, 55_000, pictures), *rng.integers(2_000_000, 3_000_000, 40)]
    paths = []
    for number, size in enumerate(sizes):
        suffix = "png" if number < pictures else "nii.gz"
        paths.append(folder / f"case_{number:05d}.image.{suffix}")
        paths[-1].write_bytes(rng.bytes(int(size)))
    return paths


def ours(files: list[Path], out: Path) -> list[Shard]:
    samples = [Sample(path.name.split(".")[0], (Item(path.name, path),)) for path in files]
    return write_shards(fresh(out), "train", samples, CAP)


def fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return out


def by_tarfile(files: list[Path], out: Path) -> None:
    fresh(out)
    tar, filled = None, CAP
    for path in files:
        size = path.stat().st_size
        if tar is None or filled + size > CAP:
            if tar:
                tar.close()
            tar, filled = tarfile.open(out / f"{path.name}.tar", "w"), 0  # noqa: SIM115
        tar.add(path, path.name)
        filled += size
    if tar:
        tar.close()


def by_webdataset(files: list[Path], out: Path) -> None:
    pattern = str(fresh(out) / "train-%06d.tar")
    with webdataset.ShardWriter(pattern, maxsize=CAP, encoder=False, verbose=0) as sink:
        for path in files:
            key, _, suffix = path.name.partition(".")
            sink.write({"__key__": key, suffix: path.read_bytes()})


def copy_of(whole: Path, out: Path) -> None:
    shutil.copyfile(whole, fresh(out) / "copy")


def check(shards: list[Shard], folder: Path) -> None:
    """Every member comes back by tarfile and by offset, with the hash that was noted."""
    for shard in shards:
        blob = (folder / shard.name).read_bytes()
        if hashlib.sha256(blob).hexdigest() != shard.sha256:
            sys.exit(f"{shard.name}: another SHA-256 than noted")
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            for member, info in zip(shard.members, tar, strict=True):
                data = blob[member.offset : member.offset + member.size_bytes]
                same = hashlib.sha256(data).hexdigest() == member.sha256
                if not same or (info.name, info.offset_data) != (member.name, member.offset):
                    sys.exit(f"{shard.name}: {member.name} does not come back")


def readers(shards: list[Shard], folder: Path) -> dict[str, Callable[[], int]]:
    """Some members in an order that nobody knows beforehand; WebDataset has to go through all."""
    members = [(shard, member) for shard in shards for member in shard.members]
    chosen = random.Random(0).sample(members, READS)  # noqa: S311 - no secret
    handles = {shard.name: os.open(folder / shard.name, os.O_RDONLY) for shard in shards}
    urls = [str(folder / shard.name) for shard in shards]

    def by_offset() -> int:
        return sum(len(os.pread(handles[s.name], m.size_bytes, m.offset)) for s, m in chosen)

    def all_by_offset() -> int:
        return sum(len(os.pread(handles[s.name], m.size_bytes, m.offset)) for s, m in members)

    def all_by_webdataset() -> int:
        found = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
        return sum(len(v) for sample in found for k, v in sample.items() if not k.startswith("__"))

    def all_by_tarfile() -> int:
        total = 0
        for url in urls:
            with tarfile.open(url) as tar:
                for info in tar:
                    member = tar.extractfile(info)
                    total += len(member.read()) if member else 0
        return total

    if not all_by_offset() == all_by_webdataset() == all_by_tarfile():
        sys.exit("the readers do not agree on the number of bytes")
    return {
        "ours by offset, 400 at random": by_offset,
        "ours by offset, all": all_by_offset,
        "WebDataset, all in order": all_by_webdataset,
        "tarfile, all in order": all_by_tarfile,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5, metavar="R")
    parser.add_argument("--pictures", type=int, default=2000, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        source, out = Path(folder) / "files", Path(folder) / "out"
        source.mkdir()
        files = make_files(source, options.pictures)
        size = sum(path.stat().st_size for path in files)
        whole = Path(folder) / "whole"
        whole.write_bytes(b"".join(path.read_bytes() for path in files))
        check(ours(files, out), out)
        ways: dict[str, Callable[[], object]] = {
            COPY: lambda: copy_of(whole, out),
            OURS: lambda: ours(files, out),
            "tarfile, no hash": lambda: by_tarfile(files, out),
            "WebDataset, no hash": lambda: by_webdataset(files, out),
        }
        written = medians(in_turn(ways, options.rounds))
        print(f"write {len(files)} files, {size >> 20} MiB")
        print(f"{'way':36} {'MiB/s':>8} {'of a copy':>10}")
        for name, seconds in written.items():
            share = written[COPY] / seconds
            print(f"{name:36} {size / seconds / 2**20:8.0f} {share:10.2f}")
        shards = ours(files, out)
        reading = readers(shards, out)
        seconds_of = medians(in_turn(reading, options.rounds))
        count = len(files)
        rate = {name: (READS if "400" in name else count) / s for name, s in seconds_of.items()}
        print(f"\n{'way to read':36} {'files/s':>8}")
        for name, found in rate.items():
            print(f"{name:36} {found:8.0f}")
    targets(
        [
            ("write with both hashes, share of a copy", written[COPY] / written[OURS], 0.30),
            (
                "write with both hashes x tarfile without",
                written["tarfile, no hash"] / written[OURS],
                1,
            ),
            (
                "random read by offset x WebDataset in order, files/s",
                rate["ours by offset, 400 at random"] / rate["WebDataset, all in order"],
                4,
            ),
        ]
    )


if __name__ == "__main__":
    main()
