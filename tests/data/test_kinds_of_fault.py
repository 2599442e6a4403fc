"""Inputs that people have, each of a kind that was read wrongly or refused for a wrong reason."""

import gzip
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynnas.data.load import load_data
from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources import find
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


class Told(Progress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def fill(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, ending: str = "png") -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (50 * number + i,) * 3).save(root / name / f"{i}.{ending}")
    return root


def read(root: Path) -> RawData:
    return find.read(str(root), Progress())


def sizes(raw: RawData) -> tuple[int, ...]:
    return tuple(len(part) if part else 0 for part in (raw.train, raw.search, raw.test))


# Kind 3: names of splits become classes, or a split is dropped.


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("training", "testing"), (12, 0, 4)),
        (("Train", "Test"), (12, 0, 4)),
        (("train", "valid"), (12, 0, 4)),
        (("train", "validation"), (12, 0, 4)),
        (("TRAIN", "Val", "TEST"), (12, 4, 4)),
        (("train", "valid", "test"), (12, 4, 4)),
        (("Train", "Dev", "Eval"), (12, 4, 4)),
        (("trn", "tst"), (12, 0, 4)),
    ],
)
def test_splits_are_known_in_every_spelling(
    tmp_path: Path, names: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    fill(tmp_path / names[0])
    for name in names[1:]:
        fill(tmp_path / name, count=2)
    raw = read(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert sizes(raw) == expected


def test_the_validation_split_ranks_candidates(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 4), ("test", 3)):
        fill(tmp_path / part, count=count)
    assert load_data(DataSettings(source=str(tmp_path))).split_sizes == (12, 8, 6)
    fewer = load_data(DataSettings(source=str(tmp_path), search_images=2, train_images=4))
    assert fewer.split_sizes == (4, 2, 6)
    with pytest.raises(DataError, match="9 is more than the 8 images of the validation split"):
        load_data(DataSettings(source=str(tmp_path), search_images=9))


def test_splits_without_folders_of_classes_are_no_classes(tmp_path: Path) -> None:
    fill(tmp_path, ("train", "test1"))
    with pytest.raises(DataError, match=r"test1, train are splits, but none .* folders of classes; make one"):
        read(tmp_path)
    fill(tmp_path / "training")
    fill(tmp_path / "Train")
    with pytest.raises(DataError, match="are both the train split; keep one"):
        read(tmp_path)


@pytest.mark.parametrize("called", ["val", "valid", "validation", "dev"])
def test_a_validation_part_of_an_npz_ranks_candidates(tmp_path: Path, called: str) -> None:
    images, labels = np.zeros((30, 4, 4), np.uint8), np.arange(30)[:, None] % 3
    np.savez(
        tmp_path / "med.npz", train_images=images, train_labels=labels,
        **{f"{called}_images": images[:9], f"{called}_labels": labels[:9]},
        test_images=images[:6], test_labels=labels[:6],
    )  # fmt: skip
    assert load_data(DataSettings(source=str(tmp_path / "med.npz"))).split_sizes == (30, 9, 6)


def test_arrays_that_are_no_split_are_said(tmp_path: Path) -> None:
    images, labels = np.zeros((30, 4, 4), np.uint8), np.arange(30) % 3
    np.savez(tmp_path / "more.npz", x_train=images, y_train=labels, x_extra=images, y_extra=labels)
    told = Told()
    load_data(DataSettings(source=str(tmp_path / "more.npz")), told)
    assert told.messages[0].endswith("; left out: arrays x_extra, y_extra")


def test_splits_of_other_names_are_asked_about(tmp_path: Path) -> None:
    for part in ("fold1", "fold2"):
        fill(tmp_path / part)
    told = Told()
    assert find.read(str(tmp_path), told).class_names == ("fold1", "fold2")
    assert told.messages == [
        f"warning: fold1, fold2 are taken for the classes of {tmp_path}, and each has the folders cat, dog; "
        "if those are the classes, name the others train, val and test"
    ]


# Kind 4: pictures are read or left out by name alone.


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git/objects"])
def test_what_systems_leave_behind_is_no_data(tmp_path: Path, hidden: str) -> None:
    fill(tmp_path)
    for place in (tmp_path / "cat" / hidden, tmp_path / hidden):
        fill(place, ("",), count=3)
    raw = read(tmp_path)
    assert (raw.class_names, sizes(raw), raw.left_out) == (("cat", "dog"), (12, 0, 0), "")


def test_jfif_is_read_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    pets = fill(tmp_path / "pets", ending="jpg")
    for i in range(3):
        (pets / "cat" / f"{i}.jpg").rename(pets / "cat" / f"{i}.jfif")
    for name in ("a.heic", "b", "c", "Thumbs.db"):
        (pets / "dog" / name).write_bytes(b"x")
    told = Told()
    load_data(DataSettings(source=str(pets)), told)
    assert told.messages[0] == (
        "data: pets: 9 train, 1 search, 2 test images of 8 x 8 pixels, RGB; 2 classes in training (cat 5, "
        "dog 4); shifts of up to 1 px and mirrors; left out: 2 files (no ending), 1 file (.heic)"
    )


def test_files_without_endings_of_pictures_are_no_pictures(tmp_path: Path) -> None:
    for path in fill(tmp_path).glob("*/*.png"):
        path.rename(path.with_suffix(""))
    with pytest.raises(DataError, match="one folder of pictures for each class, known by their endings"):
        read(tmp_path)


def test_links(tmp_path: Path) -> None:
    fill(tmp_path)
    os.symlink(tmp_path / "cat", tmp_path / "cat" / "again")
    assert sizes(read(tmp_path)) == (12, 0, 0)
    os.symlink("/nowhere/x.png", tmp_path / "dog" / "gone.png")
    with pytest.raises(DataError, match=r"dog/gone\.png: a link to a file that is not there; mend or remove"):
        read(tmp_path)


# Kind 5: pixels lose their meaning.


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, :, 3] = 255  # a black bar on nothing
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    image = read(tmp_path).train.images[0]
    assert image[:, 2:4].max() == 0
    assert image[:, 4:].min() == 255


def test_a_scale_is_that_of_its_own_numbers(tmp_path: Path) -> None:
    images, labels = np.arange(40 * 16).reshape(40, 4, 4) % 256, np.arange(40) % 2
    np.savez(
        tmp_path / "mixed.npz", x_train=images.astype(np.uint8), y_train=labels,
        x_test=(images / 255).astype(np.float32), y_test=labels,
    )  # fmt: skip
    raw = read(tmp_path / "mixed.npz")
    assert raw.test is not None
    assert np.array_equal(raw.train.images, raw.test.images)
    np.savez(
        tmp_path / "dark.npz", x_train=images.astype(np.float32), y_train=labels,
        x_test=np.ones((40, 4, 4), np.float32), y_test=labels,
    )  # fmt: skip
    raw = read(tmp_path / "dark.npz")
    assert raw.test is not None
    assert raw.test.images.max() == 1  # of 255, as in the training images


@pytest.mark.parametrize(("width", "lost"), [(15, None), (40, "80% of the usual picture, 8 x 40 pixels")])
def test_a_picture_of_which_most_is_cut_off_is_said(tmp_path: Path, width: int, lost: str | None) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (width, 8), (i, 0, 0)).save(tmp_path / name / f"{i}.png")
    told = Told()
    find.read(str(tmp_path), told)
    expected = f"warning: {lost}, is cut off to make it 8 x 8; say data: {{fit: pad}} to keep all of it, or "
    assert told.messages == ([f"{expected}data: {{size: [height, width]}} for another shape"] if lost else [])


# Kind 7: splits too small, or lacking a class.


def test_a_split_without_a_class_or_with_few_images_is_said(tmp_path: Path) -> None:
    images, labels = np.zeros((400, 4, 4), np.uint8), np.zeros(400, int)
    labels[:3] = 1
    np.savez(tmp_path / "rare.npz", images=images, labels=labels)
    told = Told()
    load_data(DataSettings(source=str(tmp_path / "rare.npz")), told)
    assert told.messages[1:] == [
        "warning: the search split has no image of 1",
        "warning: the search split has only 32 images, so that one of them is 3% of its score",
    ]


# Kind 10: defaults chosen by a name.


def put_idx(folder: Path, labels: np.ndarray, spelling: str = "{part}-{content}-{form}-ubyte.gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        images = np.zeros((len(labels), 4, 4), np.uint8)
        for content, form, array in (("images", "idx3", images), ("labels", "idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            data = header + array.astype(np.uint8).tobytes()
            name = spelling.format(part=part, content=content, form=form)
            (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def test_a_folder_of_idx_files_is_not_known_by_its_name(tmp_path: Path) -> None:
    data = load_data(DataSettings(source=str(put_idx(tmp_path / "fashion-mnist", np.arange(40) % 10))))
    assert data.task.names == tuple("0123456789")
    assert not data.augmentation.flip  # as of all signs


@pytest.mark.parametrize(
    ("names", "mirrored"),
    [
        (("cat", "dog"), True),
        (("T-shirt/top", "Ankle boot"), True),
        (("copyright", "leftovers"), True),
        (tuple("0123456789"), False),
        (("00000", "00001"), False),
        (("a", "b", "tick"), False),
        (("Turn left ahead", "Stop"), False),
        (("arrow_RIGHT", "stop"), False),
        (("stop sign", "yield sign"), False),
        (("Speed limit 30", "Stop"), False),
        (("one", "nine"), False),
        (("design", "bone"), True),
        (("n01440764", "n02102040"), True),
    ],
)
def test_only_what_has_a_word_for_a_name_is_mirrored(names: tuple[str, ...], mirrored: bool) -> None:
    part = Labelled(np.zeros((len(names), 1, 4, 4), np.uint8), np.arange(len(names)))
    assert RawData("made", "made.npz", names, part).mirrored is mirrored
    assert RawData("made", "made.npz", names, part, mirrors=not mirrored).mirrored is not mirrored


# Kind 11: a message names the wrong cause.


@pytest.mark.parametrize(
    "spelling",
    [
        "{part}-{content}-{form}-ubyte",
        "{part}-{content}.{form}-ubyte",
        "emnist-letters-{part}-{content}-{form}-ubyte",
    ],
)
def test_idx_files_in_other_spellings_with_labels_from_1(tmp_path: Path, spelling: str) -> None:
    data = load_data(DataSettings(source=str(put_idx(tmp_path, np.arange(60) % 3 + 1, spelling))))
    assert data.task.names == ("1", "2", "3")
    assert data.train.targets.unique().tolist() == [0, 1, 2]


def test_idx_files_of_two_data_sets(tmp_path: Path) -> None:
    for kind in ("letters", "digits"):
        put_idx(tmp_path, np.arange(40) % 2, f"emnist-{kind}-{{part}}-{{content}}-{{form}}-ubyte")
    with pytest.raises(DataError, match="are files of several data sets; give each its own folder"):
        read(tmp_path)


def test_other_archives_are_not_said_to_be_cifar10(tmp_path: Path) -> None:
    fill(tmp_path / "pictures")
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "pictures", "pictures")
    with pytest.raises(DataError, match=r"pictures\.tar\.gz: an archive, and not CIFAR-10's; unpack it"):
        read(tmp_path / "pictures.tar.gz")


def test_one_folder_too_deep_and_labels_in_a_table(tmp_path: Path) -> None:
    fill(tmp_path / "wrapped" / "dataset")
    with pytest.raises(DataError, match="only one folder, 'dataset', and the folders of classes lie in it"):
        read(tmp_path / "wrapped")
    fill(tmp_path / "table", ("images",))
    (tmp_path / "table" / "labels.csv").write_text("0.png,cat\n")
    with pytest.raises(DataError, match=r"one folder, 'images', and labels in labels\.csv; give the table"):
        read(tmp_path / "table")
