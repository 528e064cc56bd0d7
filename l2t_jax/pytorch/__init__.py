"""PyTorch's weights: its files read without it, and its names and layouts for networks here."""

from l2t_jax.pytorch.files import find_state_dict, read
from l2t_jax.pytorch.state_dicts import from_torch, to_torch, torch_names

__all__ = ["find_state_dict", "from_torch", "read", "to_torch", "torch_names"]
