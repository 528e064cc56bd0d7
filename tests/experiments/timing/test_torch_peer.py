"""The peer of the benchmark is the same method: PyTorch's iteration against ours, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import l2t_jax
from experiments.timing import programs
from l2t_jax import Batch, pytorch
from l2t_jax.models import cifar_resnet, vgg

torch = pytest.importorskip("torch", reason="needs PyTorch, which is not a dependency")

pytestmark = [pytest.mark.usefixtures("quickly_compiled"), pytest.mark.slow]

PAIRS = ((0, 1), (2, 3), (1, 1))


def test_the_iteration_in_pytorch_is_ours():
    from experiments.timing import torch_peer

    source, target = cifar_resnet(8, classes=4), vgg(9, classes=10, width=4)
    rng = np.random.default_rng(0)
    batch = Batch(jnp.array(rng.normal(size=(4, 32, 32, 3))), jnp.array([0, 3, 9, 2]))
    source_variables = source.init(jax.random.key(1), batch.images)
    method = l2t_jax.l2t(
        source, target, PAIRS, optimizer=programs.SGD, meta_optimizer=optax.sgd(1.0)
    )
    state = method.init(jax.random.key(0), source_variables, batch)
    drawn = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.array(rng.normal(size=leaf.shape)), state.meta_params
    )
    state = state._replace(meta_params=drawn)
    after, info = jax.jit(method.step)(state, source_variables, batch)
    ours = jax.tree.map(lambda a, b: a - b, state.meta_params, after.meta_params)

    def tensor(value):
        return torch.tensor(np.asarray(value))

    def all_of(inner) -> dict:
        variables = l2t_jax.Variables(inner.params, state.model_state)
        arrays = pytorch.to_torch(variables)
        p = {n: tensor(a) for n, a in arrays.items() if "running" not in n and "num" not in n}
        for i, projection in enumerate(inner.extra):
            p[f"r{i}.weight"] = tensor(projection.kernel).T[:, :, None, None].contiguous()
            p[f"r{i}.bias"] = tensor(projection.bias)
        return p

    def layers(params) -> list:
        return [
            (
                tensor(layer.kernel).T.contiguous().requires_grad_(),
                tensor(layer.bias).requires_grad_(),
            )
            for layer in params
        ]

    fixed = {n: tensor(a) for n, a in pytorch.to_torch(source_variables).items()}
    meta = torch_peer.Meta(layers(drawn.what), layers(drawn.where))
    images = tensor(batch.images).permute(0, 3, 1, 2).contiguous()
    labels = tensor(batch.labels).long()
    p = all_of(state.inner)
    velocity = {name: torch.zeros_like(value) for name, value in p.items()}
    with torch.no_grad():
        maps = torch_peer.cifar_resnet(fixed, images)
        weights = torch_peer.error_weights(meta, maps, PAIRS)
    moved = torch_peer.real_step(p, velocity, images, labels, 0.01, (maps, weights, PAIRS))
    for name, wanted in all_of(after.inner).items():
        np.testing.assert_allclose(moved[0][name].detach(), wanted, rtol=1e-9, atol=1e-12)
    outer, slopes = torch_peer.meta_gradient(
        *moved, meta, maps, images, labels, PAIRS, steps=2, rate=0.01
    )
    np.testing.assert_allclose(outer.item(), info.outer_loss, rtol=1e-9)
    wanted = [
        leaf
        for part in (ours.what, ours.where)
        for layer in part
        for leaf in (layer.kernel.T, layer.bias)
    ]
    for found, leaf in zip(slopes, wanted, strict=True):
        size = float(jnp.abs(leaf).max())
        assert size > 1e-6
        np.testing.assert_allclose(found, leaf, rtol=0, atol=1e-9 * size)
