"""Learning What and Where to Transfer (Jang et al., ICML 2019) as pure JAX functions."""

from l2t_jax import baselines
from l2t_jax.base import Batch, Inner, Method, accuracy, cross_entropy, target_variables
from l2t_jax.l2t import Info, State, bilevel, l2t, two_stage
from l2t_jax.matching import (
    Projection,
    all_pairs,
    channel_errors,
    combine_weights,
    init_projections,
    matching_loss,
    pair_losses,
    project,
    resize,
)
from l2t_jax.meta_networks import (
    Affine,
    MetaNetwork,
    MetaParams,
    affine_pairs,
    constant_pairs,
    error_weights,
    pool,
    softmax_channels,
    uniform_channels,
    uniform_pairs,
)
from l2t_jax.networks import Network, Outputs, Variables, output_shapes
from l2t_jax.unroll import mixed_meta_gradient, reverse_meta_gradient, unroll

__all__ = [
    "Affine",
    "Batch",
    "Info",
    "Inner",
    "MetaNetwork",
    "MetaParams",
    "Method",
    "Network",
    "Outputs",
    "Projection",
    "State",
    "Variables",
    "accuracy",
    "affine_pairs",
    "all_pairs",
    "baselines",
    "bilevel",
    "channel_errors",
    "combine_weights",
    "constant_pairs",
    "cross_entropy",
    "error_weights",
    "init_projections",
    "l2t",
    "matching_loss",
    "mixed_meta_gradient",
    "output_shapes",
    "pair_losses",
    "pool",
    "project",
    "resize",
    "reverse_meta_gradient",
    "softmax_channels",
    "target_variables",
    "two_stage",
    "uniform_channels",
    "uniform_pairs",
    "unroll",
]
