"""Prompts: demonstrations and a query as tokens, with the position of every part."""

from anchorflow.prompts.builder import PromptBuilder
from anchorflow.prompts.context import ContextLimit, TooLong
from anchorflow.prompts.parts import Demonstration, Prompt, Repetition, Series
from anchorflow.prompts.separators import keeping_apart

__all__ = [
    "ContextLimit",
    "Demonstration",
    "Prompt",
    "PromptBuilder",
    "Repetition",
    "Series",
    "TooLong",
    "keeping_apart",
]
