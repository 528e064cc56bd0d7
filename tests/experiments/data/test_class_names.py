"""Lists of class names where they meet: a run's and the data's, training and test data's."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import quick_compiler
from image_files import encoded, put

from experiments import evaluate, predict, train
from experiments.data import class_names
from experiments.networks import zoo
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.runs import inputs

SIDE = 8
ANIMALS = ("ant", "bee", "cow", "dog", "emu", "fox")


def run_evaluate(*words: object) -> int:
    args = [str(word) for word in words]
    with quick_compiler():
        return cli.run(evaluate.main, evaluate.Options, prog="l2t evaluate", args=args)


def run_train(*words: object) -> int:
    args = [str(word) for word in words]
    with quick_compiler():
        return cli.run(train.main, Config, prog="l2t train", args=args)


def save_run(folder: Path, classes: tuple[str, ...], says: int) -> Path:
    """A finished run of a network that calls every image by one class."""
    images = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), np.float32)
    network = zoo.network("resnet8", len(classes))
    like = jax.eval_shape(network.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    head = variables.params["fc"]
    head["bias"] = np.eye(len(classes), dtype=np.float32)[says]
    folder.mkdir(parents=True)
    zoo.save(folder / "target.safetensors", variables)
    trained = {"network": "resnet8", "weights": "target.safetensors", "precision": "float32",
               "image_shape": [SIDE, SIDE, 3], "crop_share": 1.0, "classes": classes}  # fmt: skip
    (folder / "result.json").write_text(json.dumps({"trained": trained}))
    return folder


def photos(folder: Path, *classes: str, count: int = 10) -> Path:
    picture = encoded(np.full((SIDE, SIDE), 90, np.uint8), "PNG")
    return put(folder, {f"{name}/{i}.png": picture for name in classes for i in range(count)})


def npz(path: Path, labels: list[int], **more: object) -> Path:
    images = np.zeros((len(labels), SIDE, SIDE, 3), np.uint8)
    np.savez(path, images=images, labels=np.array(labels), **more)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six classes whose network calls every image a bee."""
    return save_run(tmp_path_factory.mktemp("of") / "run", ANIMALS, says=1)


@pytest.mark.parametrize(
    ("classes", "right", "said"),
    [
        (("dog",), 0, "1 of 6 classes: dog"),
        (("bee",), 10, "1 of 6 classes: bee"),
        (("bee", "fox"), 10, "2 of 6 classes: bee, fox"),
        (ANIMALS, 10, ""),
    ],
)
def test_a_network_is_evaluated_on_some_of_its_classes_by_name(
    classes, right, said, run, tmp_path, capsys
):
    """As many are right as `predict` calls by their folder's name."""
    data = photos(tmp_path / "data", *classes)
    assert run_evaluate(run, data, "--predictions", tmp_path / "p.npz") == 0
    total = 10 * len(classes)
    line = capsys.readouterr().out.splitlines()[0]
    figures = f"{right} of {total} right: {100 * right / total:.2f} %"
    assert line == figures + (f" ({said})" if said else "")
    found = np.load(tmp_path / "p.npz")
    assert found["classes"].tolist() == list(ANIMALS)
    assert found["predictions"].tolist() == [1] * total
    words = [str(run), str(data), "--out", str(tmp_path / "table.csv")]
    with quick_compiler():
        assert cli.run(predict.main, predict.Options, prog="predict", args=words) == 0
    rows = (tmp_path / "table.csv").read_text().splitlines()[1:]
    named = [(Path(row.split(",")[0]).parent.name, row.split(",")[1]) for row in rows]
    assert sum(folder == name for folder, name in named) == right


def test_an_npz_file_is_matched_by_its_names_whatever_their_order(run, tmp_path, capsys):
    data = npz(tmp_path / "a.npz", [0, 0, 0, 1, 1], classes=["fox", "bee"])
    assert run_evaluate(run, data) == 0
    assert capsys.readouterr().out.startswith("2 of 5 right: 40.00 % (2 of 6 classes: bee, fox)")
    # A letter with a mark may be written in two ways.
    marked = save_run(tmp_path / "marked", ("zoe", "zo\u00e9"), says=1)
    assert run_evaluate(marked, npz(tmp_path / "b.npz", [0], classes=["zoe\u0301"])) == 0
    assert capsys.readouterr().out.startswith("1 of 1 right: 100.00 % (1 of 2 classes: zo\u00e9)")


def test_labels_alone_are_matched_with_labels_alone(tmp_path, capsys):
    """However few images there are, and whichever labels they have."""
    numbered = save_run(tmp_path / "run", class_names.numbers(300), says=257)
    data = npz(tmp_path / "a.npz", [257, 257, 3])
    assert run_evaluate(numbered, data) == 0
    assert capsys.readouterr().out.startswith("2 of 3 right: 66.67 % (2 of 300 classes: 3, 257)")
    assert run_evaluate(numbered, npz(tmp_path / "b.npz", [0, 300])) == 2
    error = capsys.readouterr().err
    assert "b.npz must be among those of" in error
    assert "(got 300): " in error


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda f: photos(f / "data", "dog", "yak", "zebu"),
            "(got yak, zebu): {f}/data has dog, yak, zebu; {run} has ant, bee, cow, dog, emu, fox",
        ),
        (
            lambda f: photos(f / "data", "Dog"),
            "(got Dog): {f}/data has Dog; {run} has ant, bee, cow, dog, emu, fox",
        ),
        (
            lambda f: npz(f / "data", [0, 1], classes=["dog", "yak"]),
            "(got yak): {f}/data.npz has dog, yak; {run} has ant, bee, cow, dog, emu, fox",
        ),
        (
            lambda f: npz(f / "data", [0, 1, 2, 3, 4, 5]),
            "{f}/data.npz must have names, as those of {run} have (got labels alone)",
        ),
        (lambda f: npz(f / "data", [0, 1], classes=["dog", "dog"]), "(got dog again)"),
        (lambda f: npz(f / "data", [0, 2], classes=["dog", "bee"]), "must be 0 to 1"),
    ],
)
def test_classes_that_a_run_does_not_know_are_told_with_both_lists(
    make, told, run, tmp_path, capsys
):
    make(tmp_path)
    (data,) = tmp_path.glob("data*")
    assert run_evaluate(run, data) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert told.format(f=tmp_path, run=run) in line


def test_weights_alone_want_as_many_classes_and_take_them_by_order(run, tmp_path, capsys):
    words = ["--network", "resnet8", "--weights", run / "target.safetensors", "--image-size", SIDE]
    data = photos(tmp_path / "six", *"uvwxyz", count=2)
    assert run_evaluate(*words, "--data", data) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("2 of 12 right: 16.67 % (the 6 classes taken by order")
    assert run_evaluate(*words, "--data", npz(tmp_path / "a.npz", [0, 1, 5])) == 0
    assert "1 of 3 right: 33.33 % (the 6 classes taken by order" in capsys.readouterr().out
    for source, got in (
        (photos(tmp_path / "one", "dog"), "(got 1: dog)"),
        (photos(tmp_path / "seven", *"tuvwxyz", count=1), "(got 7: t, u, v, w, x, y, z)"),
        (npz(tmp_path / "b.npz", [0, 1, 2]), "(got 3: 0, 1, 2)"),
        (npz(tmp_path / "c.npz", [0, 5, 255]), "255 often marks images to ignore"),
    ):
        assert run_evaluate(*words, "--data", source) == 2
        error = capsys.readouterr().err
        assert f"--data {source} must have 6 classes" in error
        assert got in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "(got no --network, --weights, --data)"),
        ("--network resnet8 --data photos", "(got no --weights)"),
        ("run", "run/config.json must tell the run's data"),
        ("run photos --part test", "--part must not be given with DATA (got test and photos)"),
        ("run photos --network resnet8", "--network must not be given with RUN (got run)"),
        ("run photos --image-size 16", "--image-size must not be given with RUN (got run)"),
        ("run photos --crop-share 0.5", "--crop-share must not be given with RUN (got run)"),
        ("run nowhere", "no such data: nowhere"),
        ("nowhere photos", "nowhere must be the folder of a run"),
        ("run big.npz", "the images of big.npz must be 8x8x3, as those of run (got 9x9x3)"),
        ("swapped photos", "target.safetensors must have 6 classes, as swapped/result.json"),
        (
            "--network resnet8 --weights nowhere.pth --data broken",
            "--weights nowhere.pth: no such file",
        ),
        ("run photos --batch-size 0", "--batch-size must be at least 1 (got 0)"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_a_line(
    words, told, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(run)
    photos(tmp_path / "photos", "dog", count=1)
    put(tmp_path, {"broken/dog/0.png": b"no picture"})
    images = np.zeros((6, 9, 9, 3), np.uint8)
    np.savez(tmp_path / "big.npz", images=images, labels=np.arange(6), classes=ANIMALS)
    # The weights of another run, beside the list of this one.
    shutil.copytree(run, tmp_path / "swapped")
    other = save_run(tmp_path / "other", ANIMALS[:2], says=0)
    shutil.copy(other / "target.safetensors", tmp_path / "swapped")
    assert run_evaluate(*words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert told in line


def splits_of(*words: object) -> inputs.Splits:
    args = [str(word) for word in ("--method", "scratch", "--batch-size", 2, *words)]
    return inputs.load_splits(cli.parse(Config, "l2t train", [*args, "--image-size", str(SIDE)]))


def test_test_data_of_some_classes_are_matched_by_name(tmp_path):
    """Not only where they are the first ones."""
    data = photos(tmp_path / "train", "ant", "bee", "cow", count=4)
    test = photos(tmp_path / "test", "bee", "cow", count=2)
    splits = splits_of("--data", data, "--test-data", test)
    assert splits.test.labels.tolist() == [1, 1, 2, 2]
    assert splits.test.classes == splits.train.classes == ("ant", "bee", "cow")
    numbered = npz(tmp_path / "test.npz", [0, 1, 2, 0], classes=["cow", "ant", "bee"])
    splits = splits_of("--data", data, "--test-data", numbered)
    assert splits.test.labels.tolist() == [2, 0, 1, 2]
    alone = npz(tmp_path / "alone.npz", [0, 1, 2])
    for source, told in (
        (photos(tmp_path / "other", "bee", "yak"), r"\(got yak\): .*other has bee, yak; .*train"),
        (alone, r"must have names, as those of --data .*train have \(got labels alone\)"),
    ):
        with pytest.raises(ValueError, match=f"classes of --test-data {source}.*{told}"):
            splits_of("--data", data, "--test-data", source)
    # Of labels alone any test data will do whose labels are known.
    train = npz(tmp_path / "train.npz", [0, 1, 2] * 4)
    splits = splits_of("--data", train, "--test-data", npz(tmp_path / "few.npz", [2, 0, 2]))
    assert splits.test.labels.tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match=r"must be among those of --data .*\(got 3\)"):
        splits_of("--data", train, "--test-data", npz(tmp_path / "more.npz", [2, 3]))
    small = tmp_path / "small.npz"
    np.savez(small, images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.arange(2))
    with pytest.raises(ValueError, match=r"small.npz must be 8x8x3, .*\(got 4x4x3\)"):
        splits_of("--data", train, "--test-data", small)


@pytest.mark.parametrize(
    ("labels", "more", "told"),
    [
        ([0, 5, 9], {}, r"\(got 0, 5, 9: no image of classes 1, 2, 3, 4, 6, 7, 8\); number"),
        ([1, 2, 3], {}, r"\(got 1 to 3: no image of class 0\); subtract 1"),
        ([2, 3], {}, r"\(got 2, 3: no image of classes 0, 1\); number the classes anew"),
        ([1], {}, r"\(got 1 to 1: no image of class 0\); subtract 1"),
        ([0, 1, 255], {}, r"\(got 0, 1, 255: .* and \d+ more\); .*; 255 often marks images"),
        ([0, 1, -1], {}, r"must be 0 to 99999 \(got -1 to 1, outside 8 times\); -1 often marks"),
        ([0, 1, 255], {"classes": ["a", "b"]}, r"must be 0 to 1, as classes names 2 .*; 255 often"),
        ([0, 1, 2], {"classes": ["a", "b"]}, r"must be 0 to 1, as classes names 2 \(got 0 to 2,"),
        ([0, 2], {"classes": ["a", "b", "c", "d"]}, r"an image of every class \(got none of b, d"),
    ],
)
@pytest.mark.parametrize("per_class", [(), ("--per-class", 1)])
def test_labels_with_gaps_or_out_of_range_are_named_as_what_they_are(
    labels, more, told, per_class, tmp_path
):
    data = npz(tmp_path / "a.npz", labels * 8, **more)
    with pytest.raises(ValueError, match=told):
        splits_of("--data", data, *per_class)


@pytest.mark.slow
def test_finetuning_says_where_it_takes_the_sources_classifier(run, tmp_path, capsys):
    words = ["--method", "finetune", "--source", "resnet8", "--target", "resnet8", "--epochs", 1]
    words += ["--source-weights", run / "target.safetensors", "--batch-size", 2, "--image-size", 8]
    for classes, said in ((ANIMALS, True), (ANIMALS[:5], False)):
        data = photos(tmp_path / f"{len(classes)}", *classes, count=3)
        folder = tmp_path / f"run {len(classes)}"
        assert run_train(*words, "--data", data, "--run-dir", folder) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert ("with its classifier, since both have as many classes" in first) == said
