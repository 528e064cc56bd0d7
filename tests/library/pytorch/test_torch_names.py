"""Weights as training tools write them: prefixes, wrappers, dictionaries around them, bfloat16."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch_files

from l2t_jax import Variables
from l2t_jax.models import cifar_resnet
from l2t_jax.pytorch import find_state_dict, from_torch, read, to_torch

NETWORK = cifar_resnet(8, 3)
DRAWN = jax.jit(NETWORK.init)(jax.random.key(0), jnp.ones((1, 8, 8, 3), jnp.float32))
WEIGHTS = to_torch(DRAWN)


def same(state_dict):
    """Whether a network takes these weights and is the one that they came from."""
    found = from_torch(state_dict, DRAWN)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(DRAWN), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def prefixed(*prefixes):
    return {"".join(prefixes) + name: value for name, value in WEIGHTS.items()}


USUAL = ("_orig_mod.", "model.", "module.")


@pytest.mark.parametrize(
    "prefixes", [order for n in (1, 2, 3) for order in itertools.permutations(USUAL, n)]
)
def test_usual_prefixes_come_off_in_any_order(prefixes):
    state_dict = prefixed(*prefixes)
    assert list(find_state_dict({"state_dict": state_dict})) == list(WEIGHTS)
    assert same(find_state_dict(state_dict))
    assert same(state_dict)  # from_torch alone, of what other readers read


@pytest.mark.parametrize(
    "names",
    [
        *[(name,) for name in ("state_dict", "model_state_dict", "model", "target_model")],
        *[(name,) for name in ("state_dict_ema", "model_ema", "ema_state_dict", "net", "weights")],
        *[("model", "state_dict"), ("checkpoint",), ("state_dict", "model_ema", "module")],
    ],
)
def test_dictionaries_around_the_weights_are_opened(names):
    tree = prefixed("module.")
    for name in reversed(names):
        tree = {"epoch": 3, "optimizer": {"state": {0: {"step": np.ones(1)}}}, name: tree}
    assert same(find_state_dict(tree))
    flat = {".".join(names) + "." + name: value for name, value in WEIGHTS.items()}
    assert names == ("checkpoint",) or same(find_state_dict(flat))


def test_weight_averaging_counts_beside_its_module():
    counted = {"n_averaged": np.array(7), **prefixed("module.")}
    assert same(find_state_dict(counted))
    assert same(counted)
    nested = {f"model.{name}": value for name, value in counted.items()}
    assert same(find_state_dict({"state_dict": nested}))


def test_compiled_parts_of_a_network_have_their_names():
    parts = {name.replace(".", "._orig_mod.", 1): value for name, value in WEIGHTS.items()}
    assert parts.keys() != WEIGHTS.keys()
    assert same(find_state_dict(parts))


def test_plain_weights_are_taken_before_averaged_ones():
    other = {name: value + 1 for name, value in WEIGHTS.items()}
    assert same(find_state_dict({"state_dict_ema": other, "state_dict": WEIGHTS}))


def test_a_network_may_have_such_a_name_itself():
    """All of its parameters lie under ``model``, and so do those of the file, or not."""
    like = Variables({"model": {"fc": {"kernel": jnp.zeros((2, 3))}}}, {})
    for name in ("model.fc.weight", "fc.weight", "module.model.fc.weight"):
        for state_dict in ({name: np.ones((3, 2))}, find_state_dict({name: np.ones((3, 2))})):
            assert np.all(from_torch(state_dict, like).params["model"]["fc"]["kernel"] == 1)


def test_prefixes_of_some_names_stay():
    mixed = {"model.a": np.zeros(1), "criterion.b": np.zeros(1)}
    assert list(find_state_dict(mixed)) == list(mixed)
    clash = {"_orig_mod.a": np.zeros(1), "a": np.ones(1)}
    assert list(find_state_dict(clash)) == list(clash)


def test_names_that_do_not_fit_are_shown_beside_those_of_the_network():
    foreign = {f"encoder_q.{name}": value for name, value in WEIGHTS.items()}
    with pytest.raises(ValueError, match=rf"0 of {len(WEIGHTS)} fit") as error:
        from_torch(find_state_dict({"state_dict": foreign}), DRAWN)
    for part in (
        "missing: ",
        ": block1.bn1.running_mean [16]",
        "unexpected: ",
        "encoder_q.",
        " more",
    ):
        assert part in str(error.value)
    with pytest.raises(ValueError, match=r"teacher, student|student, teacher"):
        find_state_dict({"teacher": WEIGHTS, "student": WEIGHTS})


DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F16": np.float16,
}


@pytest.mark.parametrize("kind", list(DTYPES))
def test_safetensors_of_short_types_give_back_every_bit(kind):
    dtype = DTYPES[kind]
    arrays = {"w": np.arange(-3, 3).reshape(2, 3).astype(dtype), "empty": np.zeros((0, 2), dtype)}
    found = read(torch_files.safetensors(arrays, kind))
    for key, array in arrays.items():
        assert found[key].dtype == dtype
        assert found[key].shape == array.shape
        assert found[key].tobytes() == array.tobytes()


def test_bfloat16_weights_become_those_of_a_network():
    short = {name: value.astype(ml_dtypes.bfloat16) for name, value in WEIGHTS.items()}
    tree = read(torch_files.safetensors({f"model.{k}": v for k, v in short.items()}, "BF16"))
    found = to_torch(from_torch(find_state_dict(tree), DRAWN))
    for name, value in short.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], value.astype(np.float32))


@pytest.mark.parametrize("kind", [np.int8, np.bool_, np.complex64])
def test_weights_that_are_no_floats_are_refused(kind):
    """Such as quantised ones, whose scale is elsewhere."""
    name, value = next(iter(WEIGHTS.items()))
    with pytest.raises(ValueError, match=f"{name} {np.dtype(kind)}, which must be real floats"):
        from_torch(WEIGHTS | {name: value.astype(kind)}, DRAWN)


def test_types_that_numpy_has_not_are_named():
    with pytest.raises(ValueError, match=r"w is F8_E8M0"):
        read(torch_files.safetensors({"w": np.zeros(2, np.int8)}, "F8_E8M0"))
