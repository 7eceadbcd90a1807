"""Causal language models of transformers: decomposition, probes and plateaus along their checkpoints."""

from unplateau.integrations.huggingface.accuracy import InContextAccuracy, icl_accuracy
from unplateau.integrations.huggingface.admission import admit, check_decoder
from unplateau.integrations.huggingface.decoder import Decoder
from unplateau.integrations.huggingface.loading import LanguageModel, load_decoder, load_language_model
from unplateau.integrations.huggingface.prompts import TokenTask

__all__ = [
    "Decoder",
    "InContextAccuracy",
    "LanguageModel",
    "TokenTask",
    "admit",
    "check_decoder",
    "icl_accuracy",
    "load_decoder",
    "load_language_model",
]
