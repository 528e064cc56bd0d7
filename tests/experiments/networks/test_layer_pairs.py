"""Pairs of layers by name."""

import jax
import jax.numpy as jnp
import pytest

from experiments.networks.layer_pairs import choose_pairs
from l2t_jax import Outputs

MAPS = tuple(jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32) for side in (8, 8, 4))
NETWORK = Outputs(jax.ShapeDtypeStruct((1, 3), jnp.float32), MAPS, {})


def test_a_pair_is_named_once():
    assert choose_pairs("0-0,1-0", [NETWORK], NETWORK) == [(0, 0), (1, 0)]
    assert choose_pairs("0:0-0,1:0-0", [NETWORK, NETWORK], NETWORK) == [(0, 0), (3, 0)]
    with pytest.raises(ValueError, match=r"each pair once \(got 0:1-0 again in 1-0,0-0,01-0\)"):
        choose_pairs("1-0,0-0,01-0", [NETWORK], NETWORK)
