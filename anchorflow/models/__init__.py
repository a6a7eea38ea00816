"""Models: load a Hugging Face decoder, or make a tiny one. This package imports torch only when a model is loaded."""

from anchorflow.models.abilities import PROPERTIES, Abilities
from anchorflow.models.devices import Dtype, choose_device, choose_dtype, to_device
from anchorflow.models.language_model import LanguageModel, Model, Shape, attention_layers, prepare
from anchorflow.models.pretrained import Pretrained
from anchorflow.models.resources import Resources
from anchorflow.models.tiny import Tiny

__all__ = [
    "PROPERTIES",
    "Abilities",
    "Dtype",
    "LanguageModel",
    "Model",
    "Pretrained",
    "Resources",
    "Shape",
    "Tiny",
    "attention_layers",
    "choose_device",
    "choose_dtype",
    "prepare",
    "to_device",
]
