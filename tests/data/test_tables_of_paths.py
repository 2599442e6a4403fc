"""Tables of paths: classes, labels or numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.streaming.images import read_images
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


def _write(root: Path, header: str, cells: list[str], name: str = "table.csv") -> Path:
    (root / "pictures").mkdir(exist_ok=True)
    lines = [header]
    for number, cell in enumerate(cells):
        path = root / "pictures" / f"{number}.png"
        Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(path)
        lines.append(f"pictures/{number}.png,{cell}")
    (root / name).write_text("\n".join(lines).replace(",", "\t" if name.endswith("tsv") else ","))
    return root / name


def _load(path: Path, progress: Progress | None = None, **settings: object) -> Dataset:
    return load_data(DataSettings(source=str(path), **settings), progress)  # type: ignore[arg-type]


def _shown(dataset: Dataset) -> dict[int, object]:
    """The target of each picture, which shows its number."""
    found = {}
    for part in (dataset.train, dataset.search, dataset.test):
        numbers = read_images(part.images)[:, 0, 0, 0].tolist()
        found |= dict(zip(numbers, part.targets.tolist(), strict=True))
    return found


@pytest.mark.parametrize("name", ["table.csv", "table.tsv"])
def test_classes(tmp_path: Path, name: str) -> None:
    path = _write(
        tmp_path, "Path,label,note", [f"{'cat' if n % 3 else 'dog'},x" for n in range(30)], name.lower()
    )
    dataset = _load(path)
    assert (dataset.name, dataset.task.names) == ("table", ("cat", "dog"))
    assert (dataset.split_sizes, dataset.size) == ((22, 2, 6), (6, 6))
    assert _shown(dataset) == {number: int(number % 3 == 0) for number in range(30)}
    streamed = _load(path, memory_gb=0.0)
    assert streamed.digest == dataset.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [(",", ";"), (",", "\t"), ("/", "\\"), ("path,", "\ufeffpath,"), ("\n", "\r\n")],
    ids=["semicolons", "tabs", "backslashes", "mark", "lines"],
)
def test_tables_as_other_programs_write_them(tmp_path: Path, old: str, new: str) -> None:
    path = _write(tmp_path, "path,label", [("cat", "dog")[n % 2] for n in range(30)])
    expected = _load(path)
    path.write_bytes(path.read_text().replace(old, new).encode())
    dataset = _load(path)
    assert (dataset.task.names, dataset.digest) == (("cat", "dog"), expected.digest)


def test_a_picture_that_is_listed_again_counts_once(tmp_path: Path) -> None:
    told = []

    class Told(Progress):
        def message(self, text: str) -> None:
            told.append(text)

    path = _write(tmp_path, "path,label", [("cat", "dog")[n % 2] for n in range(30)])
    expected = _load(path).digest
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines, *lines[3:7]]))
    assert _load(path, Told()).digest == expected
    assert told[0].endswith("left out: 4 lines that name a picture again")
    path.write_text("\n".join([*lines, lines[3].replace("cat", "dog")]))
    with pytest.raises(DataError, match=r"line 32: pictures/2.png is in line 4 already, with other cells"):
        _load(path)


def test_lines_without_a_class_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label", [("cat", "dog", "")[n % 3] for n in range(30)])
    with pytest.raises(DataError, match="10 of 30 lines have no label; say the class of each picture"):
        _load(path)


def test_numbered_classes_are_in_their_order_and_splits_are_kept(tmp_path: Path) -> None:
    parts = ["train"] * 10 + ["Valid"] * 4 + ["test"] * 6
    path = _write(tmp_path, "image,split,class", [f"{part},{9 + n % 3}" for n, part in enumerate(parts)])
    dataset = _load(path)
    assert (dataset.task.names, dataset.split_sizes) == (("9", "10", "11"), (10, 4, 6))
    assert sorted(read_images(dataset.search.images)[:, 0, 0, 0].tolist()) == [10, 11, 12, 13]


def test_numbers_for_regression(tmp_path: Path) -> None:
    told = []

    class Told(Progress):
        def message(self, text: str) -> None:
            told.append(text)

    path = _write(tmp_path, "file,age,height", [f"{n},{2.5 * n}" for n in range(20)])
    dataset = _load(path, Told(), task="regression")
    assert dataset.task.names == ("age", "height")
    assert dataset.split_sizes == (14, 2, 4)
    assert _shown(dataset) == {n: [n, 2.5 * n] for n in range(20)}
    assert told[0].endswith("no augmentation; the test and the search split cut from the training images")
    other = _load(path, task="regression", seed=5)
    assert other.test.targets.sum() == dataset.test.targets.sum()
    assert other.search.targets.sum() != dataset.search.targets.sum()


@pytest.mark.parametrize("header", ["path,labels", "path,sun,sea"])
def test_labels(tmp_path: Path, header: str) -> None:
    words = ["", "sun", "sea", "sea; sun"]
    cells = [words[n % 4] if "labels" in header else f"{n % 4 % 2},{n % 4 // 2}" for n in range(20)]
    dataset = _load(_write(tmp_path, header, cells), task="multi_label")
    at = [dataset.task.names.index(name) for name in ("sun", "sea")]
    shown = {n: [row[place] for place in at] for n, row in _shown(dataset).items()}
    assert shown == {n: [n % 4 % 2, n % 4 // 2] for n in range(20)}


@pytest.mark.parametrize(
    ("content", "task", "message"),
    [
        ("name,label\n", None, "no rows; the first line names the columns"),
        ("name,label\na,b\n", None, "no column for the picture; name it path, file"),
        ("path,kind\npictures/0.png,b\n", None, "no column for the class; name it label, class"),
        (
            "path,label\npictures/0.png,b\nx.png,b\ny.png,b\n",
            None,
            r"x\.png is not there, and 1 more;",
        ),
        ("path,label\npictures/0.png\n", None, "line 2: not as many cells as columns; mend the line"),
        ("path,age\npictures/0.png,old\n", "regression", "line 2: age is 'old', not a number"),
        ("path,set,label\npictures/0.png,half,b\n", None, "the split 'half' is not known; say train, val"),
        ("path,set,label\npictures/0.png,val,b\n", None, "no row is of the training split; say train in"),
        ("path\npictures/0.png\n", "regression", "no column beside that of the picture; add one"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, content: str, task: str | None, message: str) -> None:
    path = _write(tmp_path, "path,label", ["b"])
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        _load(path, task=task)


def test_torch_sees_equal_bytes(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,age", [str(n) for n in range(20)])
    held, streamed = _load(path, task="regression"), _load(path, task="regression", memory_gb=0.0, workers=1)
    for ours, others in zip(streamed.training_batches(0, 0, 4), held.training_batches(0, 0, 4), strict=True):
        assert torch.equal(ours[0], others[0])
        assert torch.equal(ours[1], others[1])
