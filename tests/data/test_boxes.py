"""Pictures with boxes: Pascal VOC and COCO, brought to one size, streamed or held."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxes import NAMES, picture, voc
from support.real_data import DATA

from dynnas.data.boxes.annotated import placed
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


def coco(root: Path, in_folders: bool) -> Path:
    for part, numbers in {"train": range(12), "val": range(12, 15)}.items():
        folder = root / (("valid" if part == "val" else part) if in_folders else f"{part}2017")
        folder.mkdir(parents=True)
        images, annotations = [], []
        for number in numbers:
            image, boxes = picture(number)
            image.save(folder / f"{number}.png")
            images.append({"id": 7 * number, "file_name": f"{number}.png", "width": 40, "height": 30})
            for kind, x1, y1, x2, y2 in boxes:
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": 7 * number,
                        "category_id": (17, 90)[kind],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "iscrowd": int(number == 3),
                    }
                )
        nothing = {"id": 99, "image_id": annotations[0]["image_id"], "category_id": 17, "bbox": [3, 4, 0, 2]}
        annotations.append(nothing)
        categories = [{"id": 90, "name": "dot"}, {"id": 17, "name": "cell"}, {"id": 1, "name": "nothing"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = folder / "_annotations.coco.json"
        if not in_folders:
            path = root / "annotations" / f"instances_{part}2017.json"
            path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return root


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def load(root: Path, progress: Progress | None = None, **settings: object) -> Dataset:
    return load_data(DataSettings(source=str(root), **settings), progress)  # type: ignore[arg-type]


def check_boxes(dataset: Dataset, skipped: bool) -> None:
    """Each box lies around what is bright, as far as its picture is not the skipped one."""
    found = 0
    for part in (dataset.train, dataset.search, dataset.test):
        for image, rows in zip(read_images(part.images), part.targets.tolist(), strict=True):
            boxes = [row for row in rows if row[0] >= 0]
            covered = torch.zeros(image.shape[1:], dtype=torch.bool)
            for kind, x1, y1, x2, y2 in boxes:
                covered[round(y1) : round(y2), round(x1) : round(x2)] = True
                assert kind in (0, 1)
            if boxes or not skipped:
                assert torch.equal(covered, image[0] > 127)
            found += len(boxes)
    assert found > 10


def test_voc(tmp_path: Path) -> None:
    told = Told()
    dataset = load(voc(tmp_path / "cells"), told)
    assert (dataset.task.name, dataset.task.names) == ("detection", NAMES)
    assert (dataset.split_sizes, dataset.size) == ((12, 3, 4), (30, 40))
    check_boxes(dataset, skipped=True)
    assert told.lines[0] == (
        "data: cells: 12 train, 3 search, 4 test images of 30 x 40 pixels, RGB; boxes of 2 classes in "
        "training (cell 11, dot 5); shifts of up to 3 px and mirrors; left out: 1 pictures that no list "
        "names, 2 boxes that are marked as difficult"
    )


def test_voc_without_lists_is_split(tmp_path: Path) -> None:
    told = Told()
    dataset = load(voc(tmp_path / "cells", lists=False), told)
    assert dataset.split_sizes == (14, 2, 4)
    assert "the test and the search split cut from the training images" in told.lines[0]
    other = load(tmp_path / "cells", seed=1)
    assert torch.equal(
        read_images(other.test.images).flatten(1).sum(1).sort().values,
        read_images(dataset.test.images).flatten(1).sum(1).sort().values,
    )


@pytest.mark.parametrize("in_folders", [False, True])
def test_coco(tmp_path: Path, in_folders: bool) -> None:
    told = Told()
    dataset = load(coco(tmp_path / "cells", in_folders), told)
    assert dataset.task.names == NAMES
    assert dataset.split_sizes == (11, 1, 3)  # the validation pictures are the test ones
    check_boxes(dataset, skipped=True)
    assert told.lines[0].endswith("left out: 2 crowds and 2 boxes without an area")


def test_the_same_boxes_and_bytes_streamed(tmp_path: Path) -> None:
    root = voc(tmp_path / "cells")
    held, streamed = load(root), load(root, memory_gb=0.0, workers=2)
    assert streamed.digest == held.digest
    for ours, others in zip(streamed.training_batches(0, 1, 4), held.training_batches(0, 1, 4), strict=True):
        assert torch.equal(ours[0], others[0])
        assert torch.equal(ours[1], others[1])


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(60, 40), (24, 64), (15, 20)])
@pytest.mark.parametrize("original", [(40, 30), (31, 47)])
def test_boxes_lie_where_the_picture_is_brought(
    tmp_path: Path, fit: str, size: tuple[int, int], original: tuple[int, int]
) -> None:
    width, height = original
    x1, y1, x2, y2 = 9, 11, 22, 20
    pixels = np.zeros((height, width), np.uint8)
    pixels[y1:y2, x1:x2] = 255
    Image.fromarray(pixels).save(tmp_path / "one.png")
    form = Form(*size, grey=True, fit=fit)
    image = pictures.read(tmp_path / "one.png", form)[0].astype(float) / 255
    (box,) = placed(np.array([[1.0, x1, y1, x2, y2]]), width, height, form)
    # The light inside the box is all the light there is, and it fills the box.
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5
    inside = (columns > box[1] - 1) & (columns < box[3] + 1) & (rows > box[2] - 1) & (rows < box[4] + 1)
    assert image[~inside].sum() <= 0.02 * image.sum()
    area = (box[3] - box[1]) * (box[4] - box[2])
    assert image.sum() == pytest.approx(area, rel=0.12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "Annotations" / "005.xml").unlink(), r"005\.xml: not a readable annotation"),
        (
            lambda root: (root / "Annotations" / "005.xml").write_text("<a>"),
            r"005\.xml: not a readable annot",
        ),
        (lambda root: (root / "JPEGImages" / "005.png").unlink(), "the train list names '005', but"),
        (lambda root: (root / "JPEGImages" / "005.png").write_bytes(b"x"), r"005\.png: not a readable image"),
        (lambda root: (root / "ImageSets/Main/val.txt").write_text("001"), "'001' is in train and in search"),
    ],
)
def test_what_is_damaged_is_named(tmp_path: Path, change, message: str) -> None:
    root = voc(tmp_path / "cells")
    change(root)
    with pytest.raises(DataError, match=message):
        load(root)


def test_coco_with_a_picture_that_is_not_there(tmp_path: Path) -> None:
    root = coco(tmp_path / "cells", in_folders=True)
    (root / "train" / "4.png").unlink()
    with pytest.raises(DataError, match=r"it names '4\.png', which is in none of .*put the pictures there"):
        load(root)


BCCD = DATA / "bccd.zip"


@pytest.mark.skipif(not BCCD.exists(), reason=f"needs {BCCD}")
def test_blood_cells(tmp_path: Path) -> None:
    with zipfile.ZipFile(BCCD) as archive:
        archive.extractall(tmp_path)
    dataset = load(tmp_path / "BCCD", size=(120, 160))
    assert dataset.task.names == ("Platelets", "RBC", "WBC")
    assert dataset.split_sizes == (205, 87, 72)
    assert int((dataset.train.targets[..., 0] >= 0).sum()) > 2000
