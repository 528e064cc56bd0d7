"""The rival methods, in the same ``(init, step)`` form as `l2t_jax.l2t`."""

from l2t_jax.baselines.attention import attention_loss, attention_map, attention_transfer
from l2t_jax.baselines.distillation import distillation, distillation_loss
from l2t_jax.baselines.feature_matching import feature_matching
from l2t_jax.baselines.finetuning import finetune, from_source
from l2t_jax.baselines.penalties import Info, Penalty, State, scratch, with_penalties

__all__ = [
    "Info",
    "Penalty",
    "State",
    "attention_loss",
    "attention_map",
    "attention_transfer",
    "distillation",
    "distillation_loss",
    "feature_matching",
    "finetune",
    "from_source",
    "scratch",
    "with_penalties",
]
