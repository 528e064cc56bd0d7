"""Learning What and Where to Transfer (Jang et al., ICML 2019) as pure JAX functions.

All are functions of arrays and pytrees: nothing here compiles, reads a file or keeps a state.
A training method is a `Method`, a pair ``(init, step)``; compile its step with `jax.jit`.

- The method: `l2t`, with meta-networks "what" (`softmax_channels`, …) and "where" (`affine_pairs`,
  `constant_pairs`, `softmax_pairs`, …), over pairs of layers (`all_pairs`).
- Its rivals: `l2t_jax.baselines` (`scratch`, `finetune`, `feature_matching`, …).
- Its pieces: `matching_loss` and what it is made of; `unroll`; the meta-gradients
  `mixed_meta_gradient`, `low_memory_meta_gradient`, `reverse_meta_gradient` and
  `finite_difference_meta_gradient`.
- Networks: a `Network` is a pair of functions too. `l2t_jax.models` has some, `l2t_jax.adapters`
  takes Linen and NNX modules, `l2t_jax.pytorch` reads PyTorch's weights.
"""

from l2t_jax import _ynnpack, baselines
from l2t_jax.affine import Affine
from l2t_jax.base import (
    Apply,
    Batch,
    Init,
    Inner,
    Method,
    Network,
    Outputs,
    Step,
    Variables,
    target_variables,
)
from l2t_jax.feature_maps import pool, resize, tokens_to_map
from l2t_jax.finite_differences import finite_difference_meta_gradient
from l2t_jax.l2t import Info, State, l2t
from l2t_jax.losses import accuracy, cross_entropy
from l2t_jax.matching import (
    Projection,
    channel_errors,
    combine_weights,
    init_projections,
    matching_loss,
    pair_losses,
    project,
)
from l2t_jax.meta_gradients import (
    MetaGradient,
    low_memory_meta_gradient,
    mixed_meta_gradient,
    reverse_meta_gradient,
)
from l2t_jax.meta_networks import (
    MetaNetwork,
    MetaParams,
    affine_pairs,
    constant_pairs,
    error_weights,
    level_pairs,
    softmax_channels,
    softmax_pairs,
    uniform_channels,
    uniform_pairs,
)
from l2t_jax.networks import (
    concatenate,
    join_variables,
    output_shapes,
    with_standard_features,
    with_token_maps,
)
from l2t_jax.pairs import all_pairs, check_pairs
from l2t_jax.unroll import unroll
from l2t_jax.virtual_steps import bilevel, matching_only, two_stage

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Apply",
    "Batch",
    "Info",
    "Init",
    "Inner",
    "MetaGradient",
    "MetaNetwork",
    "MetaParams",
    "Method",
    "Network",
    "Outputs",
    "Projection",
    "State",
    "Step",
    "Variables",
    "accuracy",
    "affine_pairs",
    "all_pairs",
    "baselines",
    "bilevel",
    "channel_errors",
    "check_pairs",
    "combine_weights",
    "concatenate",
    "constant_pairs",
    "cross_entropy",
    "error_weights",
    "finite_difference_meta_gradient",
    "init_projections",
    "join_variables",
    "l2t",
    "level_pairs",
    "low_memory_meta_gradient",
    "matching_loss",
    "matching_only",
    "mixed_meta_gradient",
    "output_shapes",
    "pair_losses",
    "pool",
    "project",
    "resize",
    "reverse_meta_gradient",
    "softmax_channels",
    "softmax_pairs",
    "target_variables",
    "tokens_to_map",
    "two_stage",
    "uniform_channels",
    "uniform_pairs",
    "unroll",
    "with_standard_features",
    "with_token_maps",
]

_ynnpack.turn_off()
