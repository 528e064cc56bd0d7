"""Hand-written networks, small enough for finite differences and quick to compile."""

import jax
import jax.numpy as jnp
import numpy as np

from l2t_jax import Batch, Network, Outputs, Variables

# Smooth on purpose: a finite difference across a kink of ReLU says nothing.
ACTIVATION = jnp.tanh


def network(widths: tuple[int, ...], classes: int = 3) -> Network:
    """Pixelwise layers with batch norm and pooling between; one feature map a layer.

    The model state holds each layer's last batch mean, as running statistics would.
    """

    def init(key, images):
        params, state, inputs = [], [], images.shape[-1]
        for k, width in zip(jax.random.split(key, len(widths)), widths, strict=True):
            params.append(jax.random.normal(k, (inputs, width), images.dtype) / inputs**0.5)
            state.append(jnp.zeros(width, images.dtype))
            inputs = width
        head = jax.random.normal(jax.random.fold_in(key, 9), (inputs, classes), images.dtype)
        return Variables({"layers": params, "head": head}, {"means": state})

    def apply(variables, images, *, train):
        x, maps, means = images, [], []
        for kernel, running in zip(
            variables.params["layers"], variables.model_state["means"], strict=True
        ):
            x = x @ kernel
            mean = jnp.mean(x, (0, 1, 2)) if train else running
            means.append(jax.lax.stop_gradient(mean) if train else running)
            x = ACTIVATION(x - mean)
            maps.append(x)
            x = (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2 if x.shape[1] > 1 else x
        logits = jnp.mean(x, (1, 2)) @ variables.params["head"]
        return Outputs(logits, tuple(maps), {"means": means})

    return Network(init, apply)


def batch(seed: int, size: int = 5, side: int = 4, classes: int = 3) -> Batch:
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.standard_normal((size, side, side, 3)))
    return Batch(images, jnp.asarray(rng.integers(0, classes, size)))
