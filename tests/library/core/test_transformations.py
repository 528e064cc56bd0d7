"""Every differentiable function under every transformation of JAX."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest
import surface
from oracles import random_like

import l2t_jax

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]
CASES = surface.cases()


def scalar(case: surface.Case) -> Callable[[Any], jax.Array]:
    """All that a case's function gives as one number, of all that goes in."""

    def function(inputs):
        leaves = [leaf for leaf in jax.tree.leaves(case.function(*inputs)) if leaf.size]
        return sum(jnp.sum(jnp.sin(leaf + i)) for i, leaf in enumerate(leaves))

    return function


def along(function: Callable, direction: Any) -> tuple[Callable, Callable]:
    """Its derivative along a direction, by forward and by reverse mode."""

    def reverse(x):
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), jax.grad(function)(x), direction)
        return sum(jax.tree.leaves(products))

    return lambda x: jax.jvp(function, (x,), (direction,))[1], reverse


@pytest.mark.parametrize("name", list(CASES))
def test_derivatives_of_both_modes_are_those_of_finite_differences(name):
    """First ones, and second ones in all four ways, by everything that goes in."""
    case = CASES[name]
    inputs = (case.shared, case.samples)
    direction, step = random_like(inputs, 11), 1e-5
    function = scalar(case)

    @jax.jit
    def derivatives(inputs):
        first = along(function, direction)
        second = [way for one in first for way in along(one, direction)] if case.order == 2 else []
        return [[way(inputs) for way in ways] for ways in ([function], first, second)]

    (_,), first, second = derivatives(inputs)
    ends = [
        derivatives(jax.tree.map(lambda x, d, s=sign: x + s * step * d, inputs, direction))
        for sign in (1, -1)
    ]
    for found, order in ((first, 0), (second, 1)):
        for value in found:
            numeric = (ends[0][order][0] - ends[1][order][0]) / (2 * step)
            assert float(value) == pytest.approx(float(numeric), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", [name for name in CASES if name != "l2t.step"])
def test_it_can_be_mapped_and_scanned(name):
    """A batch of inputs: the same as one after the other, gradients too; all under jit."""
    case = CASES[name]
    both = jax.value_and_grad(scalar(case))

    def stack(leaf):
        return jnp.stack([leaf, 1.1 * leaf])

    @jax.jit
    def ways(many):
        alone = [both(jax.tree.map(lambda leaf, i=i: leaf[i], many)) for i in range(2)]
        one_by_one = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
        _, scanned = jax.lax.scan(lambda _, x: ((), both(x)), (), many)
        of_all = jax.grad(lambda many: jnp.sum(jax.vmap(scalar(case))(many)))(many)
        return one_by_one, jax.vmap(both)(many), scanned, (one_by_one[0], of_all)

    expected, *others = ways(jax.tree.map(stack, (case.shared, case.samples)))
    for other in others:
        chex.assert_trees_all_close(other, expected, rtol=1e-11, atol=1e-13)


def test_samples_can_be_split_over_devices():
    script = Path(surface.__file__)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [*CASES, "mapped over devices"]


def test_the_matrix_is_of_every_public_loss_and_gradient():
    named = {name for name in CASES if name.isidentifier()}
    losses = {
        name for module in (l2t_jax, l2t_jax.baselines) for name in module.__all__
        if name.endswith(("_loss", "_losses", "_gradient", "_errors", "_weights", "_entropy"))
    }  # fmt: skip
    assert losses <= named
