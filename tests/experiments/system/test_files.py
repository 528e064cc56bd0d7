"""Files are written whole, or not at all; what is no file is written to as it is."""

import os
import threading

import pytest

from experiments.system.files import replacing


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def fail():
        with replacing(path) as unfinished:
            unfinished.write_text("ne")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    path, real = tmp_path / "link", tmp_path / "real" / "a"
    real.write_text("old")
    path.symlink_to(real)
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    assert path.is_symlink()
    assert real.read_text() == "new"


def test_a_pipe_stays_one(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    with replacing(path) as unfinished:
        unfinished.write_text("new")
    reader.join()
    assert read == ["new"]
    assert path.is_fifo()
