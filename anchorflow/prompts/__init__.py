"""Prompts: demonstrations and queries become tokens that know which part they belong to."""

from anchorflow.prompts.builder import PromptBuilder
from anchorflow.prompts.parts import Demonstration, Prompt, Repetition, Series

__all__ = ["Demonstration", "Prompt", "PromptBuilder", "Repetition", "Series"]
