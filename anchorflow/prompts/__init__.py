"""Prompts: demonstrations and queries become tokens that know which part they belong to."""

from anchorflow.prompts.builder import PromptBuilder
from anchorflow.prompts.context import ContextLimit, TooLong
from anchorflow.prompts.parts import Demonstration, Prompt, Repetition, Series

__all__ = ["ContextLimit", "Demonstration", "Prompt", "PromptBuilder", "Repetition", "Series", "TooLong"]
