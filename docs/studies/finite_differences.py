"""How near float32 and finite differences come to the exact meta-gradient, along a real run.

    python docs/studies/finite_differences.py WEIGHTS IMAGES
    python docs/studies/finite_differences.py WEIGHTS IMAGES --batch 64 --exact
    python docs/studies/finite_differences.py WEIGHTS IMAGES --rounded

ResNet-32 → VGG-9 with batch norm of a quarter of its width, 15 pairs, T = 2, learning rate 0.1, SGD
with momentum 0.9 and weight decay 1e-4. The reference is the exact meta-gradient of the same state
in float64. With --exact only the exact one in float32 is compared, alone and as a mean over the
meta-gradients of eight batches. With --rounded it is compared with operands of all products rounded
as an accelerator rounds them unless it is told not to.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rounded_products import BITS, rounded

import l2t_jax
from l2t_jax import pytorch
from l2t_jax.models import cifar_resnet, vgg

STATES = (0, 5, 20)
STEPS = (1e-2, 1e-3, 1e-4)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# Compiled with less care, which takes a third of the time.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)


def cast(tree, dtype):
    """Its real arrays in another type."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, tree
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--rounded", action="store_true")
    options = parser.parse_args()
    size = options.batch
    data = np.load(options.images)
    order = np.random.default_rng(0).permutation(len(data["labels"]))
    source, target = cifar_resnet(32, classes=200), vgg(9, classes=10, width=16)
    pairs = l2t_jax.all_pairs((4, 9, 14), range(5))
    sgd = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))

    def batch(number: int, dtype="float32") -> l2t_jax.Batch:
        rows = order[size * number : size * (number + 1)]
        images = (data["images"][rows] / 255 - MEAN) / DEVIATION
        return l2t_jax.Batch(jnp.asarray(images, dtype), jnp.asarray(data["labels"][rows]))

    like = jax.eval_shape(source.init, jax.random.key(0), batch(0).images)
    state_dict = pytorch.find_state_dict(pytorch.read(options.weights.read_bytes()))
    variables = cast(pytorch.from_torch(state_dict, like), "float32")

    def stepper(meta_gradient, change=lambda step: step):
        """A step, changed as asked, whose meta-parameters move by the meta-gradient itself."""
        method = l2t_jax.l2t(
            source,
            target,
            pairs,
            optimizer=sgd,
            meta_optimizer=optax.sgd(1.0),
            meta_gradient=meta_gradient,
        )
        step = jax.jit(change(method.step))

        def taken(state, number, dtype):
            given = cast(state, dtype), cast(variables, dtype), batch(number, dtype)
            after, _ = step(*given)
            moved = jax.tree.map(jnp.subtract, given[0].meta_params, after.meta_params)
            leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(moved)]
            return after, np.concatenate(leaves)

        return method, taken

    method, exact = stepper(l2t_jax.mixed_meta_gradient)
    state = jax.jit(method.init)(jax.random.key(1), variables, batch(0))
    states = {}
    for number in range(max(STATES) + 1):
        if number in STATES:
            states[number] = state
        after, _ = exact(state, number, "float32")
        state = after._replace(meta_params=state.meta_params)
    right = {number: exact(each, number, "float64")[1] for number, each in states.items()}
    print("| step | meta-gradient | cosine | relative error |\n|---|---|---|---|")

    def tell(number: int, name: str, found: np.ndarray, true: np.ndarray | None = None) -> None:
        true = right[number] if true is None else true
        cosine = found @ true / np.linalg.norm(found) / np.linalg.norm(true)
        error = np.linalg.norm(found - true) / np.linalg.norm(true)
        print(f"| {number} | {name} | {cosine:.5f} | {error:.2g} |", flush=True)

    for number, each in states.items():
        tell(number, "exact, float32", exact(each, number, "float32")[1])
    if options.rounded:
        for kind, bits in BITS.items():
            _, taken = stepper(l2t_jax.mixed_meta_gradient, partial(rounded, bits=bits))
            for number, each in states.items():
                tell(number, f"products of {kind}", taken(each, number, "float32")[1])
        return
    if options.exact:
        for number, each in states.items():
            means = [
                np.mean([exact(each, 30 + i, dtype)[1] for i in range(8)], axis=0)
                for dtype in ("float32", "float64")
            ]
            tell(number, "exact, float32, mean of 8 batches", *means)
        return
    for central in (False, True):
        for step in STEPS:
            mode = partial(l2t_jax.finite_difference_meta_gradient, step=step, central=central)
            _, taken = stepper(mode)
            kind = "central" if central else "one-sided"
            for dtype in ("float32",) if central else ("float32", "float64"):
                for number, each in states.items():
                    tell(number, f"{kind} {step:g}, {dtype}", taken(each, number, dtype)[1])


if __name__ == "__main__":
    main()
