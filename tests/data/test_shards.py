"""Tars of webdataset and Parquet files of Hugging Face."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings

COUNTS = {"train": 20, "validation": 6, "test": 8}
GREYS = (40, 220)


def png(number: int) -> bytes:
    """A picture whose grey tells its class, which is its number modulo 2."""
    pixels = np.full((6, 6), GREYS[number % 2], np.uint8)
    pixels[0, 0] = number
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def write_tars(root: Path, label: str = "cls") -> Path:
    root.mkdir()
    for part, count in COUNTS.items():
        for shard in range(2):
            with tarfile.open(root / f"{part}-{shard:04}.tar", "w") as tar:
                for number in range(shard, count, 2):
                    own = (number // 2) % 2
                    files = {"png": png(own + 2 * number)}
                    files[label] = (
                        json.dumps({"label": own}).encode() if label == "json" else str(own).encode()
                    )
                    for ending, content in files.items():
                        entry = tarfile.TarInfo(f"{part}/sample{number:04}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
    return root


def write_parquet(root: Path, words: bool = False) -> Path:
    (root / "data").mkdir(parents=True)
    said = {"info": {"features": {"label": {"names": ["dark", "bright"], "_type": "ClassLabel"}}}}
    for part, count in COUNTS.items():
        pictures = [{"bytes": png(number), "path": None} for number in range(count)]
        labels = [("dark", "bright")[n % 2] if words else n % 2 for n in range(count)]
        table = pa.table({"image": pictures, "label": labels})
        if not words:
            table = table.replace_schema_metadata({"huggingface": json.dumps(said)})
        pq.write_table(table, root / "data" / f"{part}-00000-of-00001.parquet")
    return root


def load(root: Path, **settings: object) -> Dataset:
    return load_data(DataSettings(source=str(root), augment="none", **settings))  # type: ignore[arg-type]


def check(dataset: Dataset) -> None:
    assert dataset.split_sizes == tuple(COUNTS.values())
    for split in (dataset.train, dataset.search, dataset.test):
        bright = torch.from_numpy(np.asarray(read_images(split.images)))[:, 0, 3, 3] > 100
        assert torch.equal(split.targets == 1, bright)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("label", ["cls", "json"])
def test_tars_of_webdataset(tmp_path: Path, label: str) -> None:
    root = write_tars(tmp_path / "shards", label)
    (root / "classnames.txt").write_text("dark\nbright\n")
    dataset = load(root)
    assert dataset.task.names == ("dark", "bright")
    check(dataset)


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    named, words = (load(write_parquet(tmp_path / str(each), each)) for each in (False, True))
    assert (named.task.names, words.task.names) == (("dark", "bright"), ("bright", "dark"))
    check(named)


def test_the_same_bytes_streamed_and_written_out_once(tmp_path: Path, cache: Path) -> None:
    root = write_tars(tmp_path / "shards")
    whole, streamed = load(root), load(root, memory_gb=0.0, workers=0)
    for part in ("train", "search", "test"):
        one, other = getattr(whole, part), getattr(streamed, part)
        assert torch.equal(read_images(one.images), read_images(other.images))
    assert whole.digest == streamed.digest
    assert len(list(cache.glob("shards-*"))) == 1
    with tarfile.open(root / "train-0000.tar", "a") as tar:  # changed: written out again
        for ending, content in (("png", png(1)), ("cls", b"1")):
            entry = tarfile.TarInfo(f"train/late.{ending}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert len(load(root).train) == COUNTS["train"] + 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": png(0), "a.cls": b"0", "b.png": png(1)}, r"b has png; its class is missing: b.cls"),
        ({"a.png": png(0), "a.cls": b"0", "b.cls": b"1"}, r"b has cls but no picture"),
        ({"a.png": png(0), "a.cls": b"0", "b.png": b"none", "b.cls": b"1"}, r"b: not a readable image"),
        ({"a.png": png(0), "a.cls": b"0", "b.png": png(1), "b.cls": b"cat"}, "some classes are numbers"),
        ({"a.png": png(0), "a.json": b"{}"}, r"a: its class cannot be read \('label'\)"),
    ],
)
def test_tars_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with pytest.raises(DataError, match=message):
        load(tmp_path / "train.tar")


def test_parquet_without_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match="has the columns text, label and none of image, img, picture; rename"
    ):
        load(tmp_path / "train.parquet")
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load(tmp_path / "train.parquet")
