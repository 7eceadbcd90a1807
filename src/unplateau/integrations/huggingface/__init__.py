"""Causal language models of transformers: decomposition, probes and plateaus along their checkpoints."""

from unplateau.integrations.huggingface.checks import check_decoder
from unplateau.integrations.huggingface.decoder import Decoder, check_architecture
from unplateau.integrations.huggingface.loading import LanguageModel, load_decoder, load_language_model
from unplateau.integrations.huggingface.token_task import TokenTask

__all__ = [
    "Decoder",
    "LanguageModel",
    "TokenTask",
    "check_architecture",
    "check_decoder",
    "load_decoder",
    "load_language_model",
]
