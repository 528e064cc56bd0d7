"""What is taken for what, beside scikit-learn's count."""

import csv

import numpy as np
from sklearn.metrics import confusion_matrix

from experiments.reporting import confusion
from experiments.runs import confusion_file
from experiments.training import evaluation

CLASSES = ("cat", "dog", "a longer name", "fish")


def test_counts_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (2, 200))
    matrix = evaluation.confusion(labels, predictions, 4)
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, predictions, labels=range(4)))


def test_the_worst_class_comes_first_with_what_it_is_taken_for(tmp_path):
    matrix = np.array([[8, 2, 0, 0], [0, 5, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0]])
    heading, *lines = confusion.by_class(matrix, CLASSES)
    assert heading.split()[:2] == ["class", "accuracy"]
    assert lines == [  # without the class that has no image
        "a longer name     0.0 %       0 4      dog (3)",
        "cat              80.0 %       8 10     dog (2)",
        "dog             100.0 %       5 5      -",
    ]
    assert confusion.by_class(np.array([[3]]), ("one",)) == []
    many = confusion.by_class(np.eye(30, dtype=int), [str(i) for i in range(30)])
    assert len(many) == 1 + confusion.LISTED + 1
    assert many[-1] == "... and 10 classes with a higher accuracy"
    confusion_file.write(tmp_path / "c.csv", matrix, CLASSES)
    found = confusion_file.read(tmp_path / "c.csv")
    assert found.classes == CLASSES
    np.testing.assert_array_equal(found.matrix, matrix)
    no_text = (*CLASSES[:3], "caf\udce9")  # a folder's name in Latin-1
    confusion_file.write(tmp_path / "bytes.csv", matrix, no_text)
    assert confusion_file.read(tmp_path / "bytes.csv").classes == no_text
    with (tmp_path / "c.csv").open(newline="") as file:
        first, *rows = csv.reader(file)
    assert first[1:] == list(CLASSES)
    assert [row[0] for row in rows] == list(CLASSES)
    np.testing.assert_array_equal([[int(x) for x in row[1:]] for row in rows], matrix)


def test_pictures_of_few_and_of_many_classes_are_drawn(tmp_path):
    """Also of those whose names have formulas that are none, or bytes that are no text."""
    for count in (1, 4, 150):
        names = [f"class {i}$_$ caf\udce9" for i in range(count)]
        confusion.draw(tmp_path / f"{count}.png", np.eye(count, dtype=int) * 7, names, "$^$\udcff")
        assert (tmp_path / f"{count}.png").stat().st_size > 5000
