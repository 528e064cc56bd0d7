"""Reading, checking and dividing image sets; preprocessing against NumPy."""

import json
import math
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from reliability import malicious, mutations

from experiments.data import digests, load, splits
from experiments.data.preprocess import normalise, pad_crop_flip
from experiments.networks import zoo
from experiments.options.train_options import Config
from experiments.reference import records
from experiments.runs import inputs
from experiments.training import learned_weights


@pytest.fixture
def folder(tmp_path):
    """Two classes of pictures in several formats and sizes."""
    rng = np.random.default_rng(0)
    for name, suffix, mode in (("cat", "png", "RGB"), ("dog", "jpg", "L"), ("dog", "gif", "P")):
        (tmp_path / name).mkdir(exist_ok=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(tmp_path / name / f"{i}.{suffix}")
    return tmp_path


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


IMAGES, LABELS = np.zeros((6, 8, 8, 3), np.uint8), np.array([0, 1, 2, 0, 1, 2])


def test_digits():
    digits = load.load("digits", 16)
    assert digits.images.shape == (1797, 16, 16, 3)
    assert digits.images.dtype == np.uint8
    assert digits.images.max() == 255
    assert digits.classes == tuple("0123456789")
    assert np.bincount(digits.labels).min() > 170


def test_folder_of_class_folders(folder):
    (dataset,) = load.in_memory(load.load(str(folder), 16))
    assert dataset.images.shape == (6, 16, 16, 3)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1, 1]


def test_npz(tmp_path):
    dataset = load.load(npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS), 32)
    assert dataset.classes == ("0", "1", "2")
    greys = load.load(npz(tmp_path / "b.npz", images=IMAGES[..., 0], labels=LABELS), 32)
    assert greys.images.shape == IMAGES.shape


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
)
def test_compressed_npz(tmp_path, compression):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2000, 8, 8, 3), np.uint8)  # many pieces
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(2000) % 3)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "b.npz").write_bytes(malicious.zip_of(members, compression))
    dataset = load.load(str(tmp_path / "b.npz"), 32)
    np.testing.assert_array_equal(dataset.images, images)
    np.testing.assert_array_equal(dataset.labels, np.arange(2000) % 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "must have the arrays images and labels .got images"),
        ({"x": IMAGES}, "must have the arrays images and labels .got x"),
        (
            {"images": IMAGES.astype(float), "labels": LABELS},
            "images must be uint8, .* type float64",
        ),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"shape \(6, 8, 8, 2\)"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "labels must be 6 integers"),
        ({"images": IMAGES, "labels": LABELS - 1}, "got -1 to 1, outside 2 times.; -1 often marks"),
        (
            {"images": IMAGES, "labels": LABELS, "classes": ["a", "b"]},
            "labels must be 0 to 1, as classes names 2 .got 0 to 2",
        ),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "must hold an image .got shape"),
        ({"images": IMAGES[:, :0], "labels": LABELS}, "must hold an image .got shape"),
        (
            {"images": IMAGES, "labels": LABELS + 3_000_000},
            "labels must be 0 to 99999 .got 3000000 to 3000002",
        ),
        ({"images": IMAGES, "labels": np.array([None] * 6)}, "must be an npz file of plain arrays"),
    ],
)
def test_npz_files_that_do_not_fit_are_told(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        load.load(npz(tmp_path / "a.npz", **arrays), 32)


def test_names_of_classes_may_be_bytes(tmp_path):
    names = np.array([b"a", "ä".encode(), b"\xff"])
    found = load.load(npz(tmp_path / "a.npz", images=IMAGES, labels=LABELS, classes=names), 32)
    assert found.classes == ("a", "ä", "\udcff")


def test_damaged_npz_files_are_told_or_read(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    whole = Path(npz(path, images=IMAGES, labels=LABELS)).read_bytes()
    places = mutations.structure(whole, [IMAGES, LABELS])
    told = 0
    for number in range(500):
        if number % 2:
            path.write_bytes(mutations.damage(rng, whole, places))
        else:
            path.write_bytes(mutations.rewrite(rng, whole, [IMAGES, LABELS]))
        try:
            found = load.read_npz(path)
        except ValueError:
            told += 1
        else:
            assert found.images.shape[3] == 3
            assert number % 2 == 0 or np.array_equal(found.images, IMAGES)  # or a checksum failed
    assert 200 < told < 500


def test_malicious_npz_files_are_refused_and_nothing_runs(tmp_path):
    """Objects, bombs, and headers of huge, endless or nested shapes."""
    marker, path = tmp_path / "made by a file", tmp_path / "a.npz"
    for name, content in malicious.image_files(marker):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz"):
            load.read_npz(path)
        assert not marker.exists(), name


def test_an_array_that_is_shorter_than_its_member_is_told(tmp_path):
    """Its checksum is that of the member's whole, so that no damage to the shape goes unseen."""
    path, images = tmp_path / "a.npz", np.zeros((6, 40, 40, 3), np.uint8)
    whole = Path(npz(path, images=images, labels=LABELS[:3])).read_bytes()
    path.write_bytes(whole.replace(b"(6, 40, 40, 3)", b"(3, 40, 40, 3)"))
    with pytest.raises(ValueError, match="Bad CRC-32"):
        load.read_npz(path)
    member = malicious.npy("(5, 8, 8, 3)", values=IMAGES.tobytes())
    path.write_bytes(malicious.zip_of({"images.npy": member}))
    with pytest.raises(ValueError, match=r"got 1152 bytes for an array .*\(5, 8, 8, 3\)"):
        load.read_npz(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": np.zeros((2, 3), int)}, r"pairs must be integers .*shape \(2, 3\)"),
        ({"pairs": np.zeros((2, 2))}, "pairs must be integers .*float64"),
        ({"pairs": np.zeros((2, 2), int)}, "must have the array '0-0'"),
        ({"0-1": np.zeros((2, 2))}, r"weights must be .*shape \(2, 2\)"),
        ({"pair_weights": np.array(["a", "b"])}, "weights must be a list of floats .*type <U1"),
        ({"pair_weights": np.zeros(3)}, "pair_weights must be 2, .*got 3"),
    ],
)
def test_channel_weights_that_do_not_fit_are_told(tmp_path, change, message):
    right = {"pairs": np.array([[0, 1], [1, 1]]), "pair_weights": np.ones(2)}
    right |= {"0-1": np.ones(4), "1-1": np.ones(4)}
    assert learned_weights.read(Path(npz(tmp_path / "a.npz", **right))).pairs == [(0, 1), (1, 1)]
    with pytest.raises(ValueError, match=message):
        learned_weights.read(Path(npz(tmp_path / "a.npz", **(right | change))))


def test_records_of_endless_json_are_told(tmp_path):
    for config in ("[" * 100_000, '{"lr": 1' + "0" * 400 + "}"):
        with pytest.raises(ValueError, match="must be a record"):
            records.load(Path(npz(tmp_path / "a.npz", config=np.array(config))))


@pytest.mark.parametrize("shape", [(), (0, 8), (2**62, 0), (3,)])
def test_classifiers_of_no_classes_are_told(tmp_path, shape):
    path = tmp_path / "a.safetensors"
    head = {"dtype": "F32", "shape": shape, "data_offsets": [0, int(4 * math.prod(shape))]}
    header = json.dumps({"fc.weight": head}).encode()
    path.write_bytes(malicious.safetensors_of(header, bytes(int(4 * math.prod(shape)))))
    with pytest.raises(ValueError, match=r"a\.safetensors for resnet8: .*(classifier|array)"):
        zoo.load("resnet8", path, (8, 8, 3))


def test_folders_that_do_not_fit_are_told(folder, tmp_path):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: a class must have an image"):
        load.load(str(folder), 16)
    (folder / "empty").rmdir()
    (folder / "cat" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 problem .*cat/broken\.png: it is not an image in"):
        load.load(str(folder), 16)
    with pytest.raises(ValueError, match=r"must hold one folder a class \(got no folder"):
        load.load(str(folder / "dog"), 16)
    with pytest.raises(FileNotFoundError, match="no such data"):
        load.load(str(folder / "nowhere"), 16)
    (folder / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="must be an npz file"):
        load.load(str(folder / "text.npz"), 16)
    whole = Path(npz(folder / "cut.npz", images=IMAGES, labels=LABELS)).read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="must be an npz file"):
        load.load(str(folder / "cut.npz"), 16)


def test_parts_are_disjoint_stratified_and_repeatable():
    digits = load.load("digits", 8)
    marked = digits._replace(images=np.arange(1797).astype(np.int64))  # each image its own number
    rest, held = splits.hold_out(marked, 0.2, seed=3)
    assert set(rest.images) | set(held.images) == set(range(1797))
    assert not set(rest.images) & set(held.images)
    share = np.bincount(held.labels) / np.bincount(digits.labels)
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    np.testing.assert_array_equal(splits.hold_out(marked, 0.2, seed=3)[1].images, held.images)
    assert set(splits.hold_out(marked, 0.2, seed=4)[1].images) != set(held.images)
    pairs = splits.hold_out(splits.per_class(marked, 2, 0), 0.9, seed=0)
    assert [np.bincount(part.labels).tolist() for part in pairs] == [[1] * 10] * 2
    few = splits.per_class(rest, 7, seed=0)
    assert np.bincount(few.labels).tolist() == [7] * 10
    with pytest.raises(ValueError, match=r"--per-class must be 1 to \d+, .*got 200"):
        splits.per_class(rest, 200, seed=0)


def test_a_data_set_is_known_by_its_content_whatever_its_division(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 4, 4, 3), np.uint8), np.arange(60) % 3

    def load(seed, images=images, labels=labels):
        source = npz(tmp_path / "data.npz", images=images, labels=labels)
        return inputs.load_splits(Config(data=source, per_class=5, batch_size=5, seed=seed))

    one, two = load(0), load(1)
    assert one.data_sha256 == two.data_sha256
    assert digests.of_splits(one) != digests.of_splits(two)
    turned = np.flip(np.arange(60))
    assert load(0, images[turned], labels[turned]).data_sha256 == one.data_sha256
    brighter, other = images.copy(), labels.copy()
    brighter[7, 0, 0, 0] ^= 1
    other[7] = (other[7] + 1) % 3
    assert load(0, brighter).data_sha256 != one.data_sha256
    assert load(0, images, other).data_sha256 != one.data_sha256


def test_normalisation_is_the_published_one():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalise(images), expected, rtol=1e-5, atol=1e-6)
    assert normalise(images).dtype == np.float32


def test_augmentation_crops_and_mirrors():
    """Every result is one of the 162 crops of the padded image, and most kinds occur."""
    images = np.random.default_rng(0).integers(1, 256, (300, 6, 5, 3), dtype=np.uint8)
    images[:] = images[:1]
    moved = np.asarray(jax.jit(pad_crop_flip)(jax.random.key(0), images))
    padded = np.pad(images[0], ((4, 4), (4, 4), (0, 0)))
    crops = {}
    for i in range(9):
        for j in range(9):
            crop = padded[i : i + 6, j : j + 5]
            crops[crop.tobytes()] = (i, j, False)
            crops[crop[:, ::-1].tobytes()] = (i, j, True)
    found = {crops[image.tobytes()] for image in moved}
    assert len(found) > 100
