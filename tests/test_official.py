"""Public image sets: miniatures in the official form, and the published split."""

import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from experiments import cli, loop, official, tasks, train, zoo
from experiments.config import Config
from experiments.data import Dataset, Splits
from experiments.folders import ImageFiles
from l2t_jax import output_shapes
from l2t_jax.matching import check_pairs

CLASSES = ("a", "b_c")
COUNT = {"train": 6, "test": 2}  # images a class


def save(path: Path, grey: int) -> None:
    """An image all of one grey, which says its class and its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (grey,) * 3).save(path)


def grey_of(label: int, part: str, i: int) -> int:
    return 100 * label + 50 * (part == "test") + 5 * i


def samples():
    """Class number, class, part, number and grey of every image, not in order."""
    rows = [(k, c, p, i, grey_of(k, p, i))
            for k, c in enumerate(CLASSES) for p, n in COUNT.items() for i in range(n)]  # fmt: skip
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in lists.items():
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def make(name: str, data_dir: Path) -> None:
    """Writes a miniature of a public set in its official form."""
    root, rows = data_dir / official.SETS[name].folder, samples()
    train = [r for r in rows if r[2] == "train"]
    test = [r for r in rows if r[2] == "test"]
    file = "{0[1]}/{0[2]}{0[3]}.png".format
    if name in ("mit67", "cub200", "dogs"):
        for row in rows:
            save(root / ("images" if name == "cub200" else "Images") / file(row), row[4])
    if name == "mit67":
        write_lists(root, {"TrainImages.txt": [*map(file, train)],
                           "TestImages.txt": [*map(file, test)]})  # fmt: skip
    elif name == "cub200":
        write_lists(root, {
            "images.txt": [f"{i} {file(r)}" for i, r in enumerate(rows, 1)],
            "train_test_split.txt": [f"{i} {int(r in train)}" for i, r in enumerate(rows, 1)],
        })  # fmt: skip
    elif name == "dogs":
        for part, chosen in (("train", train), ("test", test)):
            cells = np.empty((len(chosen), 1), object)
            cells[:, 0] = [*map(file, chosen)]
            savemat(root / f"{part}_list.mat", {"file_list": cells})
    elif name == "stanford40":
        flat = "{0[1]}_{0[2]}{0[3]}.png".format
        for row in rows:
            save(root / "JPEGImages" / flat(row), row[4])
        write_lists(root / "ImageSplits", {
            f"{c}_{p}.txt": [flat(r) for r in rows if r[1:3] == (c, p)]
            for c in CLASSES for p in COUNT
        })  # fmt: skip
    elif name == "tinyimagenet":
        for row in rows:
            folder = f"train/{row[1]}/images" if row[2] == "train" else "val/images"
            save(root / folder / f"{row[1]}{row[3]}.png", row[4])
        write_lists(root, {"wnids.txt": [*CLASSES[::-1]]})
        write_lists(root / "val", {
            "val_annotations.txt": [f"{r[1]}{r[3]}.png\t{r[1]}\t0\t0\t9\t9" for r in test]
        })  # fmt: skip
    else:
        make_binary(name, root, train, test)


def make_binary(name: str, root: Path, train: list, test: list) -> None:
    """CIFAR's and STL-10's binary versions; the upper left pixel alone is red."""
    root.mkdir(parents=True)
    side = 96 if name == "stl10" else 32
    parts = {"train": train, "test": test}
    for part, rows in parts.items():
        images = np.stack([np.full((side, side, 3), r[4], np.uint8) for r in rows])
        images[:, 0, : side // 2] = 255, 0, 0
        labels = np.array([[r[0]] for r in rows], np.uint8)
        if name == "stl10":
            images.transpose(0, 3, 2, 1).tofile(root / f"{part}_X.bin")
            (labels + 1).tofile(root / f"{part}_y.bin")
            continue
        planes = images.transpose(0, 3, 1, 2).reshape(len(rows), -1)
        coarse = [labels + 7] if name == "cifar100" else []
        records = np.concatenate([*coarse, labels, planes], axis=1)
        if name == "cifar100":
            records.tofile(root / f"{part}.bin")
        elif part == "test":
            records.tofile(root / "test_batch.bin")
        else:
            for i, piece in enumerate(np.array_split(records, 5), 1):
                piece.tofile(root / f"data_batch_{i}.bin")
    lists = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}
    write_lists(root, {lists.get(name, "class_names.txt"): [*CLASSES]})


@pytest.mark.parametrize("name", official.SETS)
def test_a_set_is_read_in_its_official_form(name, tmp_path):
    make(name, tmp_path)
    wanted = official.SETS[name]
    parts = wanted.read(tmp_path / wanted.folder, 96 if name == "stl10" else 32, None)
    for part, images in zip(COUNT, parts, strict=True):
        pixels = images.load(np.arange(len(images.labels)))
        greys = [grey_of(k, part, i) for k in range(2) for i in range(COUNT[part])]
        assert images.classes == CLASSES
        assert sorted(pixels[:, -1, -1, 1].tolist()) == greys
        np.testing.assert_array_equal(pixels[:, -1, -1, 0] // 100, images.labels)
        if isinstance(images, Dataset):  # red above left, and not right or below
            np.testing.assert_array_equal(pixels[:, 0, 0] - [255, 0, 0], 0 * pixels[:, 0, 0])
            assert (pixels[:, 0, -1] == pixels[:, -1, 0]).all()
        elif wanted.split:  # the published lists count sorted names
            assert pixels[:, -1, -1, 1].tolist() == greys


# Of each public set its classes, its official training and test images, and a checksum of the
# published lists, which are as the paper used them.
PUBLISHED = {
    "cifar100": (100, 50000, 10000, 0xEAFDC786),
    "stl10": (10, 5000, 8000, 0x22AABD03),
    "cub200": (200, 5994, 5794, 0xCD5F8BFC),
    "dog": (120, 12000, 8580, 0x61924F8B),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_split_is_the_papers_whole_and_disjoint(name):
    classes, training, test, checksum = PUBLISHED[name]
    lists = official.published(name)
    assert zlib.crc32(np.concatenate(lists).astype("<i4").tobytes()) == checksum
    np.testing.assert_array_equal(np.sort(np.concatenate(lists[:2])), np.arange(training))
    np.testing.assert_array_equal(np.sort(lists.test), np.arange(test))
    # A tenth is for validation; of the birds five a class.
    assert len(lists.validation) == (5 * classes if name == "cub200" else training // 10)


def test_the_published_validation_images_are_balanced_over_the_classes():
    """In the two sets whose official order is that of the classes."""
    dogs = official.published("dog").validation // 100  # 100 a class
    np.testing.assert_array_equal(np.bincount(dogs), np.full(120, 10))
    # 30 birds a class but for six classes of 29: where a class begins is known up to six.
    birds = np.sort(official.published("cub200").validation).reshape(200, 5)
    start = 30 * np.arange(200)[:, None]
    assert (birds >= start - 6).all()
    assert (birds < start + 30).all()


@pytest.mark.parametrize("name", ["stl10", "cub200"])
def test_a_whole_set_is_divided_by_the_published_lists_and_others_with_the_seed(
    name, tmp_path, monkeypatch
):
    make(name, tmp_path)
    train, test = (2 * n for n in COUNT.values())

    def load() -> Splits:
        return official.load(name, tmp_path, 32, None, 0.2, 0)

    def values(images: Dataset | ImageFiles) -> list[int]:
        return images.load(np.arange(len(images.labels)))[:, -1, -1, 1].tolist()

    small = load()
    assert small.division.startswith("a seeded split: the published one is for all ")
    assert [len(part.labels) for part in small[:3]] == [train - 2, 2, test]
    lists = official.Indices(np.arange(3, train), np.arange(3), np.arange(test))
    monkeypatch.setattr(official, "published", {name: lists}.__getitem__)
    whole = load()
    assert whole.division == "the published split"
    found = official.SETS[name].read(tmp_path / official.SETS[name].folder, 32, None)
    assert values(whole.validation) + values(whole.train) == values(found[0])
    assert values(whole.test) == values(found[1])


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"stl10_binary.tar.gz unpacked there"):
        official.load("stl10", tmp_path, 32, None, 0.1, 0)
    make("mit67", tmp_path)
    (tmp_path / "mit67/Images/a/train3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 12 listed images are missing, such as a/"):
        official.load("mit67", tmp_path, 32, None, 0.1, 0)


@pytest.mark.parametrize(
    ("name", "file", "number"),
    [
        ("mit67", "TrainImages.txt", 4),
        ("stanford40", "ImageSplits/a_test.txt", 1),
        ("cub200", "images.txt", 5),
        ("cub200", "train_test_split.txt", 16),
        ("tinyimagenet", "wnids.txt", 2),
        ("tinyimagenet", "val/val_annotations.txt", 3),
    ],
)
def test_what_is_listed_twice_is_told_by_its_line(name, file, number, tmp_path):
    make(name, tmp_path)
    path = tmp_path / official.SETS[name].folder / file
    listed = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*listed, "", listed[number - 1]]), encoding="utf-8")
    told = f"{path.name}, line {len(listed) + 2}: .* came, as in line {number}; wanted it once"
    with pytest.raises(ValueError, match=told):
        official.load(name, tmp_path, 32, None, 0.2, 0)


def test_lists_that_do_not_go_together_are_told(tmp_path):
    make("cub200", tmp_path)
    root = tmp_path / official.SETS["cub200"].folder
    path = root / "train_test_split.txt"
    listed = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(listed[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match="differ in 1 images, such as number 16"):
        official.load("cub200", tmp_path, 32, None, 0.2, 0)
    path.write_text("\n".join([*listed[:-1], "16"]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 16: '16' came; wanted 2 columns"):
        official.load("cub200", tmp_path, 32, None, 0.2, 0)
    make("dogs", tmp_path)  # its lists are no text: the image is named
    cells = np.empty((2, 1), object)
    cells[:, 0] = "a/test0.png"
    savemat(tmp_path / "dogs/test_list.mat", {"file_list": cells})
    with pytest.raises(ValueError, match=r"a/test0\.png is listed more than once"):
        official.load("dogs", tmp_path, 32, None, 0.2, 0)


def test_a_task_sets_the_papers_settings_and_options_beside_it_win():
    def parse(*args: str) -> Config:
        return cli.parse(Config, "experiments.train", list(args))

    for name in tasks.TASKS:
        config = parse("--task", name, "--method", "scratch")
        assert config.data == name
        assert config.image_size == (32 if config.source == ("resnet32",) else 224)
        assert config.batch_size == (128 if config.source == ("resnet32",) else 64)
        assert len(config.pairs.split(",")) == (15 if config.source == ("resnet32",) else 16)
        assert config.meta_lr == (1e-3 if name == "stanford40" else 1e-4)
    # 32 is the option's own default: given, it wins all the same.
    config = parse("--batch-size", "2", "--task", "mit67", "--image-size", "32", "--meta-lr", "0.1")
    assert (config.batch_size, config.image_size, config.meta_lr) == (2, 32, 0.1)
    assert config.target == "resnet18"
    with pytest.raises(ValueError, match="invalid choice 'mnist'"):
        parse("--task", "mnist")


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_gets_to_its_first_step_with_one_line(name, tmp_path, monkeypatch, capsys):
    """All but the loop itself, whose compilation takes long; test_commands has that."""
    make(name, tmp_path)
    batches = []

    def begin(compiled, source_variables, training, *rest, **more):
        batches.append(next(training.epoch(0)))
        raise cli.RunFailedError("that will do")

    monkeypatch.setattr(loop, "train", begin)
    line = (f"--task {name} --method scratch --batch-size 4 --val-fraction 0.2 --per-class 4 "
            f"--workers 0 --data-dir {tmp_path} --run-dir {tmp_path / 'run'}")  # fmt: skip
    assert cli.run(train.main, Config, prog="experiments.train", args=line.split()) == 1
    out, error = capsys.readouterr()
    assert error.endswith("train: error: that will do\n")
    assert "on 8 training, 2 validation and 4 test images (a seeded split" in out
    side = 32 if name in ("cifar10", "cifar100", "stl10") else 224
    ((images, labels),) = batches
    assert (images.shape, images.dtype) == ((4, side, side, 3), np.uint8)
    # Class 0 is dark and class 1 light, whatever was cropped.
    np.testing.assert_array_equal(np.asarray(images)[:, side // 2, side // 2, 1] >= 100, labels)


@pytest.mark.parametrize("name", ["stl10", "mit67"])
def test_the_pairs_of_a_task_are_layers_of_its_networks(name):
    task = tasks.TASKS[name]
    images = jax.ShapeDtypeStruct((2, task["image_size"], task["image_size"], 3), np.float32)
    source, target = (
        output_shapes(net, jax.eval_shape(net.init, jax.random.key(0), images), images).features
        for net in (zoo.network(*task["source"], 200), zoo.network(task["target"], 10))
    )
    pairs = [tuple(map(int, pair.split("-"))) for pair in task["pairs"].split(",")]
    check_pairs(pairs, source, target)
    # The layers named are the ends of stages: the next one, where there is one, is smaller.
    for layers, chosen in zip((source, target), map(set, zip(*pairs, strict=True)), strict=True):
        sides = [layer.shape[1] for layer in layers]
        assert chosen <= {
            i for i in range(len(sides)) if i + 1 == len(sides) or sides[i + 1] < sides[i]
        }
