"""Data that a program gives: torch data sets, arrays and iterables of batches."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from dynnas.data.given import dataset_of
from dynnas.data.load import load_data
from dynnas.errors import DataError, TaskError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings
from dynnas.tasks import Classification, MultiLabel, Regression, Segmentation

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 6, 9, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


class Told(Progress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


class Pictures(Dataset):
    """As torchvision's: PIL images with the number of their class."""

    def __init__(self, rows: range) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int):
        return Image.fromarray(IMAGES[self.rows[at]]), int(LABELS[self.rows[at]])


def tensors(rows: slice) -> TensorDataset:
    return TensorDataset(torch.from_numpy(IMAGES[rows]).permute(0, 3, 1, 2), torch.from_numpy(LABELS[rows]))


ROWS = (slice(0, 30), slice(30, 42), slice(42, 60))
FORMS = {
    "arrays": lambda rows: (IMAGES[rows], LABELS[rows]),
    "channels first": lambda rows: (IMAGES[rows].transpose(0, 3, 1, 2), LABELS[rows]),
    "tensors": lambda rows: (torch.from_numpy(IMAGES[rows]), torch.from_numpy(LABELS[rows])),
    "pictures": lambda rows: Pictures(range(rows.start, rows.stop)),
    "data set": tensors,
    "loader": lambda rows: DataLoader(tensors(rows), batch_size=7),
    "generator": lambda rows: ((image, label) for image, label in tensors(rows)),
    "mappings": lambda rows: [
        {"image": image, "label": label} for image, label in zip(IMAGES[rows], LABELS[rows], strict=True)
    ],
    "loader of mappings": lambda rows: DataLoader(FORMS["mappings"](rows), batch_size=7),
    "list": lambda rows: list(zip(IMAGES[rows], LABELS[rows], strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_data_set(form: str) -> None:
    data = dataset_of(tuple(FORMS[form](rows) for rows in ROWS), names=["a", "b", "c"])
    assert (
        data.digest == dataset_of(tuple(FORMS["arrays"](rows) for rows in ROWS), names=["a", "b", "c"]).digest
    )
    assert (data.size, data.channels, data.split_sizes) == ((6, 9), 3, (30, 12, 18))
    assert (data.task.name, data.task.names) == ("classification", ("a", "b", "c"))
    for split, rows in zip((data.train, data.search, data.test), ROWS, strict=True):
        order = np.lexsort(split.images.flatten(1).numpy().T)
        expected = np.lexsort(IMAGES[rows].transpose(0, 3, 1, 2).reshape(rows.stop - rows.start, -1).T)
        assert torch.equal(split.images[order].permute(0, 2, 3, 1), torch.from_numpy(IMAGES[rows][expected]))
        assert split.targets[order].tolist() == LABELS[rows][expected].tolist()
    assert data.mean == pytest.approx(IMAGES[:30].mean((0, 1, 2)) / 255)
    assert data.std == pytest.approx(IMAGES[:30].std((0, 1, 2)) / 255)


def test_a_column_of_whole_numbers_is_classes() -> None:
    column = dataset_of(tuple((IMAGES[rows], LABELS[rows][:, None]) for rows in ROWS))
    assert column.digest == dataset_of(tuple((IMAGES[rows], LABELS[rows]) for rows in ROWS)).digest


def test_a_missing_search_split_is_taken_out_of_the_training_images_and_said() -> None:
    told = Told()
    data = dataset_of(
        {"train": (IMAGES[:30], LABELS[:30]), "test": (IMAGES[30:], LABELS[30:])}, progress=told
    )
    assert data.split_sizes == (27, 3, 30)
    assert data.search.targets.sort().values.tolist() == [0, 1, 2]
    assert told.messages[:1] == [
        "data: data: 27 train, 3 search, 30 test images of 6 x 9 pixels, RGB; 3 classes in training (0 9, "
        "1 9, 2 9); no augmentation; the search split is taken out of the training images"
    ]
    assert told.messages[1:] == [
        "warning: the search split has only 3 images, so that one of them is 33% of its score",
        "warning: the test split has only 30 images, so that one of them is 3% of its score",
    ]
    seen = {image.numpy().tobytes() for image in data.train.images}
    assert not seen & {image.numpy().tobytes() for image in data.search.images}


def test_training_batches_of_images_that_are_no_squares() -> None:
    data = dataset_of(tuple((IMAGES[rows], LABELS[rows]) for rows in ROWS), augment="flip")
    images, targets = data.train_batch(0, 0, 0, 8)
    assert (images.shape, targets.shape) == ((8, 3, 6, 9), (8,))


@pytest.mark.parametrize(
    ("images", "scale"),
    [
        (IMAGES.astype(np.float64) / 255, 1.0),
        ((IMAGES.astype(np.int64) * 257).astype(np.uint16), 65535.0),
        (IMAGES.astype(np.int64), 65535.0),
    ],
    ids=["floats", "16 bits", "whole numbers"],
)
def test_pixels_of_other_types_keep_their_meaning(images: np.ndarray, scale: float) -> None:
    data = dataset_of(tuple((images[rows], LABELS[rows]) for rows in ROWS))
    assert data.scale == scale
    normal = data.normalise(data.train.images)
    assert normal.mean((0, 2, 3)).numpy() == pytest.approx(0, abs=1e-3)
    assert data.mean == pytest.approx(images[:30].mean((0, 1, 2)) / scale)
    before = data.train.images.clone()
    data.normalise(data.train.images)
    assert torch.equal(data.train.images, before)


def test_targets_of_other_tasks() -> None:
    numbers = RNG.normal(size=(60, 2))
    data = dataset_of(tuple((IMAGES[rows], numbers[rows]) for rows in ROWS), Regression())
    assert data.task.facts()["mean"] == pytest.approx(numbers[:30].mean(0).tolist(), rel=1e-5)
    maps = RNG.integers(0, 4, (60, 6, 9), dtype=np.uint8)
    data = dataset_of(tuple((IMAGES[rows], maps[rows]) for rows in ROWS), Segmentation())
    assert (data.task.outputs, data.train.targets.dtype) == (4, torch.uint8)
    rows = RNG.integers(0, 2, (60, 5))
    assert dataset_of(tuple((IMAGES[part], rows[part]) for part in ROWS), MultiLabel()).task.outputs == 5
    with pytest.raises(DataError, match=r"float32 of shape \(2,\) for each image; say what they mean: task="):
        dataset_of(tuple((IMAGES[part], numbers[part]) for part in ROWS))
    moved = dataset_of(tuple((IMAGES[part], maps[part]) for part in ROWS), Segmentation(), augment="flip")
    assert moved.augmentation.flip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGES, "a ndarray is no data set"),
        ({"train": (IMAGES, LABELS)}, "no test split"),
        ({"training": (IMAGES, LABELS)}, "unknown splits training; known: train, search, test"),
        (((IMAGES, LABELS[:9]), (IMAGES, LABELS)), "60 images but 9 targets"),
        (((IMAGES, LABELS), (IMAGES / 255, LABELS)), "uint8 but test images torch.float32, so that the same"),
        (((IMAGES, LABELS), (IMAGES[:, :5], LABELS)), r"are \(3, 6, 9\) but test images \(3, 5, 9\)"),
        (((IMAGES, LABELS), (IMAGES[:0], LABELS[:0])), "test split: there are no images"),
        (((IMAGES - 300.0 * np.nan, LABELS), (IMAGES, LABELS)), "some pixels are not finite"),
        (((IMAGES.astype(int) - 5, LABELS), (IMAGES, LABELS)), "pixels reach from -5 to"),
        (([(IMAGES[0], 0), (IMAGES[1, :5], 1)], (IMAGES, LABELS)), r"number 1 is torch\.uint8 \(3, 5, 9\)"),
        (([1, 2], (IMAGES, LABELS)), "train split, image 0: found int; needed is a pair"),
        (
            ([(IMAGES[0], 1, 2)], (IMAGES, LABELS)),
            "found tuple of 3; needed is a pair .*, or a mapping with one",
        ),
        (
            ([{"picture": IMAGES[0], "label": 1}], (IMAGES, LABELS)),
            "found a mapping of picture, label; needed is",
        ),
        ((3, (IMAGES, LABELS)), "train split: a int is no split"),
        (((np.array(["a"]), LABELS), (IMAGES, LABELS)), "values are <U1; needed are numbers"),
    ],
)
def test_what_is_no_data_set_is_refused(data, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset_of(data)


def test_data_that_raise_are_one_message() -> None:
    class Failing(list):
        def __getitem__(self, at):
            if at == 3:
                raise OSError("the disk is gone")
            return np.zeros((4, 4), np.uint8), at % 2

    def batches():
        yield np.zeros((2, 4, 4), np.uint8), np.arange(2)
        raise RuntimeError("no more")

    told = "data: train split, image 3: the data raised OSError: the disk is gone"
    with pytest.raises(DataError, match=told):
        dataset_of({"train": Failing(range(6)), "test": Failing(range(2))})
    with pytest.raises(DataError, match="data: train split, item 1: the data raised RuntimeError: no more"):
        dataset_of({"train": batches(), "test": Failing(range(2))})


def test_test_targets_that_training_does_not_have_are_refused() -> None:
    with pytest.raises(TaskError, match="from 5 to 7 but there are 3 classes"):
        dataset_of(((IMAGES, LABELS), (IMAGES, LABELS + 5)), Classification())


def test_a_function_of_a_module_gives_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_data.py").write_text(
        "import numpy as np\n"
        "from dynnas.tasks import Regression\n"
        "def loaders():\n"
        "    x = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)\n"
        "    y = np.arange(20)\n"
        "    return (x[:12], y[:12] % 2), (x[12:16], y[12:16] % 2), (x[16:], y[16:] % 2)\n"
        "own = Regression(loss='huber')\n"
        "def broken():\n"
        "    raise OSError('the disk is away')\n"
    )
    monkeypatch.chdir(tmp_path)
    told = Told()
    data = load_data(DataSettings(source="given_data:loaders"), told)
    assert (data.name, data.split_sizes, data.task.name) == (
        "given_data:loaders",
        (12, 4, 4),
        "classification",
    )
    assert told.messages[0].startswith("data: given_data:loaders: 12 train, 4 search, 4 test images of 4 x 4")
    data = load_data(DataSettings(source="given_data:loaders", task="given_data:own"))
    assert data.task.facts()["loss"] == "huber"
    assert sys.path.count("") == sys.path.copy().count("")
    for source, message in (
        ("given_data:nothing", "cannot be imported .*has no attribute 'nothing'"),
        ("no_such_module:x", "'no_such_module:x' cannot be imported .*package.module:name"),
        ("given_data:broken", "raised OSError: the disk is away"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(DataSettings(source=source))
    with pytest.raises(TaskError, match="unknown task 'regresion'"):
        load_data(DataSettings(source="given_data:loaders", task="regresion"))
