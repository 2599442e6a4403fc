"""Inputs that people have, of every form of data, each read rightly or refused by one clear message."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from support.boxes import picture, voc

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.sources import find
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def load(source: Path, told: Progress | None = None, **settings: Any) -> Dataset:
    return load_data(DataSettings(source=str(source), **settings), told)


def fill(root: Path, name: str, count: int = 6, level: int = 0) -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (level + i,) * 3).save(root / name / f"{i}.png")
    return root


def two(root: Path, count: int = 6) -> Path:
    return fill(fill(root, "cat", count), "dog", count, 100)


def pixels_of(root: Path) -> np.ndarray:
    """The first picture of the first class."""
    return np.asarray(find.read(str(root), Progress()).train.images[0])


# Arrays.


def test_a_search_split_of_arrays_is_the_search_split(tmp_path: Path) -> None:
    images, labels = np.zeros((30, 4, 4), np.uint8), np.arange(30) % 3
    parts = {"train": 30, "search": 9, "test": 6}
    for spelling in ("{0}_{1}", "{1}_{0}"):
        arrays = {
            spelling.format(kind, part): whole[:count]
            for part, count in parts.items()
            for kind, whole in (("x", images), ("y", labels))
        }
        np.savez(tmp_path / "split.npz", **arrays)
        assert load(tmp_path / "split.npz").split_sizes == (30, 9, 6)


def test_arrays_of_one_name_in_two_spellings(tmp_path: Path) -> None:
    images = np.zeros((9, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", X_train=images, x_train=images, y_train=np.arange(9) % 3)
    with pytest.raises(DataError, match=r"a\.npz: has X_train and x_train; keep one of the two"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("task", "targets"),
    [
        ("regression", np.arange(30, dtype=np.float32) / 7),
        ("regression", np.arange(60, dtype=np.float64).reshape(30, 2)),
        ("multi_label", np.arange(90).reshape(30, 3) % 2),
        ("segmentation", np.arange(30 * 16).reshape(30, 4, 4) % 3),
        ("support.restoring:any_targets", np.arange(30, dtype=np.float32)),
    ],
)
def test_arrays_of_other_tasks(tmp_path: Path, task: str, targets: np.ndarray) -> None:
    images = np.repeat(np.arange(30, dtype=np.uint8), 48).reshape(30, 4, 4, 3)
    np.savez(tmp_path / "some.npz", x_train=images, y_train=targets, extra=images)
    told = Told()
    data = load(tmp_path / "some.npz", told, task=task)
    assert data.split_sizes == (22, 2, 6)
    assert "the test and the search split cut from" in told.lines[0]
    assert told.lines[0].endswith("left out: array extra")
    for part in (data.train, data.search, data.test):
        for image, target in zip(read_images(part.images), part.targets, strict=True):
            expected = torch.as_tensor(targets)[int(image[0, 0, 0])]
            assert torch.equal(target.double(), expected.to(target.dtype).double())
    again = load(tmp_path / "some.npz", task=task)
    assert again.digest == data.digest
    with pytest.raises(DataError, match=r"data.size: the images of .* are taken as they are, 4 x 4 pixels"):
        load(tmp_path / "some.npz", task=task, size=(8,))


def test_arrays_of_other_tasks_keep_their_splits(tmp_path: Path) -> None:
    images, numbers = np.zeros((30, 1, 4, 4), np.float32), np.linspace(0, 1, 30)
    parts = {"train": 30, "val": 9, "test": 6}
    arrays = {f"x_{part}": images[:count] for part, count in parts.items()}
    arrays |= {f"y_{part}": numbers[:count] for part, count in parts.items()}
    np.savez(tmp_path / "split.npz", **arrays)
    assert load(tmp_path / "split.npz", task="regression").split_sizes == (30, 9, 6)
    with pytest.raises(DataError, match=r"split\.npz: y_train is float64 \(30,\); needed is an integer or"):
        load(tmp_path / "split.npz")


def test_arrays_of_16_bits(tmp_path: Path) -> None:
    images = (np.arange(30, dtype=np.uint16) * 2000).repeat(16).reshape(30, 4, 4)
    np.savez(tmp_path / "deep.npz", images=images, labels=np.arange(30) % 2)
    data = load(tmp_path / "deep.npz")
    assert (data.scale, data.train.images.dtype) == (65535.0, torch.int32)
    for part in (data.train, data.search, data.test):
        for image, label in zip(read_images(part.images), part.targets.tolist(), strict=True):
            assert int(image[0, 0, 0]) // 2000 % 2 == label
    few = (images // 2000).astype(np.uint16)
    np.savez(tmp_path / "bytes.npz", images=few, labels=np.arange(30) % 2)
    assert load(tmp_path / "bytes.npz").train.images.dtype == torch.uint8
    mixed = {"x_train": images, "y_train": np.arange(30) % 2, "x_test": few.astype(np.uint8)}
    np.savez(tmp_path / "mixed.npz", **mixed, y_test=np.arange(30) % 2)
    with pytest.raises(DataError, match="image values reach from 0 to 58000; needed is 0"):
        load(tmp_path / "mixed.npz")


def test_rows_that_are_no_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((30, 4, 4), np.uint8), y=np.eye(3)[np.arange(30) % 3])
    message = r"\(where of 0 and 1, the place of the 1\), or say data.task: regression, multi_label or"
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")


def test_idx_files_as_torchvision_leaves_them(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        labels = np.arange(30, dtype=np.uint8) % 2
        for name, array in (("images-idx3", np.zeros((30, 4, 4), np.uint8)), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    for root in (tmp_path, tmp_path / "MNIST"):
        assert load(root).split_sizes == (27, 3, 30)


# Folders.


def test_hidden_data_are_said_and_what_programs_leave_is_not(tmp_path: Path) -> None:
    root = two(tmp_path / "pets")
    fill(root, ".eel", 3)
    fill(root / "cat", ".more", 2)
    for name in (".ipynb_checkpoints", ".Trash-1000"):
        fill(root / "dog", name, 2)
    Image.new("RGB", (8, 8)).save(root / "dog" / ".hidden.png")
    (root / "dog" / "._0.png").write_bytes(b"\0\5\x16\7")
    told = Told()
    data = load(root, told)
    assert data.task.names == ("cat", "dog")
    assert sum(data.split_sizes) == 12
    assert told.lines[0].endswith("; left out: 2 hidden folders (.eel), 1 hidden picture (.hidden.png)")
    split = two(two(tmp_path / "split" / "train").parent / "test").parent
    fill(split, ".val", 3)
    told = Told()
    load(split, told)
    assert told.lines[0].endswith("; left out: 1 hidden folder (.val)")


def test_classes_of_nothing_and_of_one_picture(tmp_path: Path) -> None:
    (two(tmp_path / "pets") / "eel").mkdir()
    fill(tmp_path / "pets", "fox", 1)
    message = "every class needs at least 3 images to be split, but 'eel' has 0, 'fox' has 1; add images or"
    with pytest.raises(DataError, match=message):
        load(tmp_path / "pets")


def test_splits_with_other_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        two(tmp_path / part)
    fill(tmp_path / "train", "eel")
    told = Told()
    load(tmp_path, told)
    assert "warning: the test split has no image of eel" in told.lines
    fill(tmp_path / "test", "fox")
    with pytest.raises(DataError, match="no training images for 'fox'; the classes are cat, dog, eel"):
        load(tmp_path)


def test_a_search_folder_is_the_search_split(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("search", 4), ("test", 3)):
        two(tmp_path / part, count)
    assert load(tmp_path).split_sizes == (12, 8, 6)


# Pictures.


def test_what_cameras_turn_is_upright_and_so_is_its_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(6):
            image = Image.fromarray(rng.integers(0, 256, (12, 24), np.uint8)).resize((48, 24))
            exif = Image.Exif()
            exif[0x0112] = 6
            image.save(tmp_path / name / f"{i}.jpg", exif=exif, quality=95)
    told = Told()
    data = load(tmp_path, told, size=(48, 24))
    assert not any("cut off" in line for line in told.lines)
    with Image.open(tmp_path / "cat" / "0.jpg") as stored:
        assert stored.size == (48, 24)
        expected = np.asarray(ImageOps.exif_transpose(stored))
    parts = (data.train, data.search, data.test)
    found = np.concatenate([read_images(part.images)[:, 0].numpy() for part in parts])
    assert any(np.array_equal(expected, each) for each in found)


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "LA", "RGBA", "I;16", "YCbCr", "HSV"])
def test_modes(tmp_path: Path, mode: str) -> None:
    grey = np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 4, 0), 4, 1)
    ending = {"CMYK": "tif", "YCbCr": "tif", "HSV": "webp", "I;16": "png"}.get(mode, "png")
    image = Image.fromarray(grey)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "HSV":
        image = image.convert("RGB")
    else:
        image = image.convert("RGB" if mode in ("CMYK", "YCbCr", "P") else "L").convert(mode)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            options = {"lossless": True} if ending == "webp" else {}
            image.save(tmp_path / name / f"{i}.{ending}", **options)
    found = pixels_of(tmp_path)
    most = 65535 if mode == "I;16" else 255
    assert found.shape == (1 if mode in ("1", "LA", "I;16") else 3, 8, 8)
    assert np.array_equal(found[0], (grey / 255 * most).astype(found.dtype))


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (level,) * 3) for level in (10, 200)]
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(3):
            frames[0].save(tmp_path / name / f"{i}.gif", save_all=True, append_images=frames[1:])
    assert pixels_of(tmp_path).max() == 10


# Tables.


def table(folder: Path, text: bytes, count: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i,) * 3).save(folder / f"a,{i}.png")
    (folder / "t.csv").write_bytes(text)
    return folder / "t.csv"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda text: text.encode(), ("red, deep", "blue")),
        (lambda text: text.encode("utf-8-sig"), ("red, deep", "blue")),
        (lambda text: text.replace("\n", "\r\n").encode(), ("red, deep", "blue")),
        (lambda text: (text + "\n\n").encode(), ("red, deep", "blue")),
        (lambda text: text.replace('"red, deep"', "10").replace("blue", "9").encode(), ("9", "10")),
    ],
)
def test_spellings_of_a_csv(tmp_path: Path, change: Any, names: tuple[str, ...]) -> None:
    rows = [f'"a,{i}.png",{("blue", chr(34) + "red, deep" + chr(34))[i % 2]}' for i in range(12)]
    data = load(table(tmp_path / "t", change("file,label\n" + "\n".join(rows))))
    assert set(data.task.names) == set(names)
    if all(map(str.isdecimal, names)):
        assert data.task.names == ("9", "10")
    for part in (data.train, data.search, data.test):
        for image, label in zip(read_images(part.images), part.targets.tolist(), strict=True):
            assert (data.task.names[label] in ("red, deep", "10")) == bool(int(image[0, 0, 0]) % 2)


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("file,label,label", '"a,{i}.png",b,c', "several columns are called label"),
        ("file,label", "a,{i}.png,b", "line 2: not as many cells as columns"),
        ("file,label", '"a,{i}.png",', "12 of 12 lines have no label"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, header: str, line: str, message: str) -> None:
    text = "\n".join([header, *(line.format(i=i) for i in range(12))])
    with pytest.raises(DataError, match=message):
        load(table(tmp_path / "t", text.encode()))


def test_a_table_beside_the_folder_of_its_pictures(tmp_path: Path) -> None:
    table(tmp_path / "t" / "images", b"")
    (tmp_path / "t" / "images" / "t.csv").unlink()
    text = "\n".join(["file,label", *(f'"a,{i}.png",{i % 2}' for i in range(12))])
    (tmp_path / "t" / "labels.csv").write_text(text)
    assert sum(load(tmp_path / "t" / "labels.csv").split_sizes) == 12
    with pytest.raises(DataError, match=r"one folder, 'images', and labels in labels\.csv; give the table"):
        load(tmp_path / "t")


def test_a_csv_in_another_encoding(tmp_path: Path) -> None:
    text = "file,label\n" + "\n".join(f'"a,{i}.png",é{i % 2}' for i in range(12))
    with pytest.raises(DataError, match=r"t\.csv: not a readable table .*; save it as UTF-8"):
        load(table(tmp_path / "t", text.encode("utf-16")))


# Tars.


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def png(level: int) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (level,) * 3).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_what_lies_beside_the_pictures_of_a_tar(cache: Path) -> None:
    files: dict[str, bytes] = {}
    for i in range(12):
        files |= {f"._{i:03}.png": b"\0\5", f"{i:03}.PNG": png(i), f"{i:03}.seg.png": png(255)}
        files |= {f"{i:03}.txt": b"a caption", f"{i:03}.cls": str(i % 2).encode()}
    data = load(tar(cache / "train-0000.tar", files))
    for part in (data.train, data.search, data.test):
        for image, label in zip(read_images(part.images), part.targets.tolist(), strict=True):
            assert int(image[0, 0, 0]) % 2 == label
    files |= {"000.jpg": b"\xff\xd8"}
    with pytest.raises(DataError, match="000 has"):
        load(tar(cache / "more.tar", files))
    both = {"000.png": png(0), "000.jpg": png(1), "000.cls": b"0"}
    with pytest.raises(DataError, match=r"000 has several pictures, png, jpg; keep one, or write \.seg\.png"):
        load(tar(cache / "both.tar", both))


# Masks.


def masked(root: Path, exif: bool, turned: bool) -> Path:
    """Pictures that are bright where their mask is 1, turned where they are shown if `exif`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        mask = np.zeros((12, 20), np.uint8)
        mask[:, : 4 + i] = 1
        shown = np.rot90(mask, -1) if exif else mask  # orientation 6 turns clockwise by a quarter
        options: dict[str, Any] = {"quality": 95}
        if exif:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 6
        Image.fromarray(mask * 200).save(root / "images" / f"{i}.jpg", **options)
        Image.fromarray(np.ascontiguousarray(shown if turned else mask)).save(root / "masks" / f"{i}.png")
        (root / "images" / f"._{i}.jpg").write_bytes(b"\0\5")
    return root


@pytest.mark.parametrize("exif", [False, True])
def test_masks_lie_on_what_is_shown(tmp_path: Path, exif: bool) -> None:
    size = (20, 12) if exif else (12, 20)
    data = load(masked(tmp_path / "m", exif, turned=exif), size=size)
    for part in (data.train, data.search, data.test):
        for image, mask in zip(read_images(part.images), part.targets, strict=True):
            assert torch.equal(image[0] > 100, mask == 1)


def test_a_mask_of_a_picture_that_is_turned(tmp_path: Path) -> None:
    message = r"\d\.png: \(20, 12\) pixels, but its picture has \(12, 20\), turned as its EXIF orientation"
    with pytest.raises(DataError, match=message):
        load(masked(tmp_path / "m", exif=True, turned=False))


# Boxes.


def coco(root: Path, change: Any = lambda content: None, count: int = 12) -> Path:
    folder = root / "Train"
    folder.mkdir(parents=True)
    categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": "dot"}]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for number in range(count):
        image, boxes = picture(number)
        image.save(folder / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
        for kind, x1, y1, x2, y2 in boxes:
            box = [x1, y1, x2 - x1, y2 - y1]
            content["annotations"].append({"id": 0, "image_id": number, "category_id": kind + 1, "bbox": box})
    change(content)
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def test_pictures_without_boxes_and_boxes_without_pictures(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 2]
        content["annotations"].append({"id": 5, "image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4]})

    told = Told()
    data = load(coco(tmp_path / "c", change), told)
    assert sum(data.split_sizes) == 12
    assert told.lines[0].endswith("left out: 1 boxes of pictures that are not listed")
    parts = (data.train, data.search, data.test)
    empty = sum(int((part.targets[..., 0] < 0).all(1).sum()) for part in parts)
    assert empty == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["annotations"][0].update(category_id=9),
            "annotations are of category 9, and its categories are 1, 2; add it",
        ),
        (
            lambda content: [each.pop("bbox") for each in content["annotations"][:2]],
            "2 annotations have no bbox of x, y, width and height, as number 0; export boxes",
        ),
        (
            lambda content: content["images"][0].update(width=30, height=40),
            r"0\.png: upright it has 40 x 30 pixels, and its annotation says 30 x 40; turn its boxes",
        ),
    ],
)
def test_annotations_of_coco_that_cannot_be_meant(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(coco(tmp_path / "c", change))


def test_two_files_of_one_split(tmp_path: Path) -> None:
    root = coco(tmp_path / "c")
    (root / "annotations").mkdir()
    for year in (2014, 2017):
        text = (root / "Train" / "_annotations.coco.json").read_text()
        (root / "annotations" / f"instances_train{year}.json").write_text(text)
    with pytest.raises(DataError, match="are both of the train split; keep one of them"):
        load(root)


def test_pictures_that_were_resized_without_their_boxes_are_said(tmp_path: Path) -> None:
    told = Told()
    load(coco(tmp_path / "c", lambda content: content["images"][0].update(width=80, height=60)), told)
    message = "1 pictures have another size than their annotations say, as 0.png, 40 x 30 and not 80 x 60"
    assert any(message in line for line in told.lines)


def test_things_of_voc_without_a_name_and_boxes_that_are_none(tmp_path: Path) -> None:
    root = voc(tmp_path / "cells")
    path = root / "Annotations" / "005.xml"
    text = path.read_text()
    path.write_text(text.replace("<xmax>", "<xmax>-", 1))
    told = Told()
    load(root, told)
    assert told.lines[0].endswith("marked as difficult, 1 boxes that end before they begin")
    path.write_text(text.replace("<name>cell</name>", ""))
    with pytest.raises(DataError, match=r"005\.xml: not a readable annotation \(an object has no name\)"):
        load(root)
