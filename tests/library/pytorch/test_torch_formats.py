"""Readers of PyTorch's files: right results, and nothing that is run."""

import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch_files
from reliability import malicious, mutations
from torch_files import Tensor

from l2t_jax.pytorch import find_state_dict, read

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": RNG.standard_normal((4, 3, 2, 2)).astype(np.float32),
    "fc.weight": RNG.standard_normal((5, 4)),
    "steps": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
}
WRITERS = [torch_files.legacy, torch_files.zipped, lambda tree: safetensors.numpy.save(ARRAYS)]


def checkpoint(arrays: dict) -> dict:
    tensors = collections.OrderedDict((name, Tensor(a)) for name, a in arrays.items())
    tensors._metadata = {"version": 1}  # PyTorch's state dicts carry attributes
    return {"epoch": 3, "best": 0.5, "state_dict": tensors}


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_pth_files_give_back_every_bit(write):
    tree = read(write(checkpoint(ARRAYS)))
    assert (tree["epoch"], tree["best"]) == (3, 0.5)
    state_dict = find_state_dict(tree)
    assert list(state_dict) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(state_dict[name], array)
        assert state_dict[name].dtype == array.dtype


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_transposed_and_shared_tensors(write):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    transposed = Tensor(array)
    transposed.values, transposed.strides = array.reshape(3, 2), (1, 3)
    np.testing.assert_array_equal(read(write({"t": transposed}))["t"], array.T)


def test_safetensors():
    np.testing.assert_array_equal(
        read(safetensors.numpy.save({"fc.weight": ARRAYS["fc.weight"]}))["fc.weight"],
        ARRAYS["fc.weight"],
    )


def test_safetensors_of_any_header_length():
    """The file begins with that length: one in 32 has a pickle's first byte."""
    first = set()
    for length in range(8, 8 + 256, 8):
        data = safetensors.numpy.save({"w" * length: ARRAYS["fc.weight"]})
        first.add(data[0])
        np.testing.assert_array_equal(read(data)["w" * length], ARRAYS["fc.weight"])
    assert 0x80 in first


def test_prefix_of_parallel_training_is_taken_off():
    assert list(find_state_dict({"model": {"module.a": np.zeros(1), "module.b": np.zeros(1)}})) == [
        "a",
        "b",
    ]
    with pytest.raises(ValueError, match=r"must hold named arrays.*epoch"):
        find_state_dict({"epoch": 3})
    with pytest.raises(ValueError, match=r"must hold a state dict .*list"):
        find_state_dict([1])


class Malicious:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write", [torch_files.legacy, torch_files.zipped, lambda tree: pickle.dumps(tree, 2)]
)
def test_other_names_are_refused_and_nothing_runs(write, tmp_path):
    path = tmp_path / "made by the file"
    with pytest.raises(ValueError, match=r"tensors and plain containers alone \(got posix\.mkdir"):
        read(write({"state_dict": Malicious(path)}))
    assert not path.exists()


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_views_may_not_claim_more_than_their_storage(write):
    tensor = Tensor(np.zeros(4, np.float32))
    tensor.strides = (0,)
    read(write({"t": tensor}))  # four times the same element: no more memory than announced
    for strides, shape in [((2,), (4,)), ((1,), (5,)), ((0, 0), (10**6, 10**6))]:
        broken = Tensor(np.zeros(4, np.float32))
        broken.strides = strides
        values = broken.values
        broken.values = np.lib.stride_tricks.as_strided(values, shape, [0] * len(shape))
        data = write_with_storage(write, broken, values)
        with pytest.raises(ValueError, match="does not fit its storage of 4 elements"):
            read(data)


def write_with_storage(write, tensor, values):
    """Writes a tensor whose shape its storage does not have."""

    class Lying:
        def __reduce__(self):
            function, arguments = Tensor(values).__reduce__()
            return function, (*arguments[:2], tensor.values.shape, tensor.strides, *arguments[4:])

    return write({"t": Lying()})


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_cut_files_are_told(write):
    data = write(checkpoint(ARRAYS))
    for length in range(8, len(data) - 1, max(len(data) // 40, 1)):
        with pytest.raises(ValueError, match=r"damaged|cut short|ends before|must|does not fit"):
            read(data[:length])


@pytest.mark.parametrize("write", WRITERS, ids=["legacy", "zipped", "safetensors"])
def test_damaged_files_are_told_or_read(write):
    data, rng = write(checkpoint(ARRAYS)), np.random.default_rng(0)
    whole, places = find_state_dict(read(data)), mutations.structure(data, list(ARRAYS.values()))
    told, read_again = 0, 0
    for number in range(500):
        checked = write is torch_files.zipped and number % 2  # its checksums tell the damage
        if write is torch_files.zipped and not checked:
            damaged = mutations.rewrite(rng, data, list(ARRAYS.values()))
        else:
            damaged = mutations.damage(rng, data, places)
        try:
            found = find_state_dict(read(damaged))
        except ValueError:
            told += 1
        else:
            read_again += 1
            # Without a checksum a name or a number may be another one; there are no more of them.
            assert sum(array.nbytes for array in found.values()) <= len(damaged)
            assert not checked or mutations.same(found, whole)
    assert told > 200
    assert read_again > 5


@pytest.mark.slow
def test_malicious_files_are_refused_and_nothing_runs(tmp_path):
    """Calls, attributes put into tensors, huge sizes, and what takes forever to hash or to copy."""
    marker = tmp_path / "made by a file"
    for name, data in malicious.weight_files(marker):
        with pytest.raises(ValueError, match=r"."):
            find_state_dict(read(data))
        assert not marker.exists(), name


@pytest.mark.parametrize("write", [torch_files.legacy, torch_files.zipped])
def test_arrays_share_memory_where_tensors_do(write):
    """A file may not make many arrays of one storage; they can be written to all the same."""
    tied = Tensor(ARRAYS["fc.weight"])
    found = read(write({"a": tied, "b": tied}))
    found["a"][0, 0] = 7
    assert found["b"][0, 0] == 7


def test_other_files_are_told():
    with pytest.raises(ValueError, match=r"a PyTorch \.pth or a safetensors.*got"):
        read(b"not a weight file")
    with pytest.raises(ValueError, match="got a compressed one"):
        read(torch_files.zipped({"a": 1}, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="magic number"):
        read(pickle.dumps({"a": 1}, 2))


def test_the_published_checkpoint(checkpoint):
    tree = read(checkpoint.read_bytes())
    assert tree["num_classes"] == 200
    assert tree["test_prec"] == pytest.approx(49.15)
    state_dict = find_state_dict(tree)
    assert len(state_dict) == 212 or "fc.weight" in state_dict
    assert state_dict["fc.weight"].shape == (200, 64)
