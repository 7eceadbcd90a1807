"""Floating-point operations of a piece of work, counted from the operations that PyTorch really dispatches.

What enters: a function that does the work once. What leaves: an integer. Steps alone are no measure of a saving, so
every comparison also needs the compute of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of one call of ``run``: matrix products, convolutions and attention; its result is dropped.

    A multiplication with its addition counts as 2. Causal attention counts as full attention, T x T, and its backward
    pass as five products, since the fused kernels compute the scores anew. Element-wise operations, norms, softmax and
    factorisations are not counted (PyTorch's own convention). ``run`` is executed for real and exactly once, and takes
    the random numbers and changes the state that it would without counting.
    """
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# PyTorch (2.13) knows the fused attention of GPUs but not that of the CPU, and would count it as 0.
_CPU_ATTENTION: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
