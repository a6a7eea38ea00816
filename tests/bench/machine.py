"""What `make gpu` measures with: models made on the device, a made-up task, and what can be asked of a device."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTJConfig, LlamaConfig

from anchorflow.data import Example, Provenance, Task, Template
from anchorflow.models import LanguageModel, prepare, toys

CLASSES = ("Abbreviation", "Entity", "Description", "Person", "Location", "Number")


@dataclass(frozen=True)
class Shape:
    """A model of random weights."""

    config: Any
    shots: tuple[int, ...] = (1, 5)
    dtype: str = "bfloat16"
    only: tuple[str, ...] = ()

    def load(self, device: str) -> LanguageModel:
        """It is made on the device."""
        torch.manual_seed(0)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(self.config, dtype=getattr(torch, self.dtype))
        return prepare("made up", model, toys.tokenizer(), Made(self.config))


@dataclass(frozen=True, eq=False)
class Made:
    """Where the memory of such a model can be asked."""

    made: Any
    name: str = "made up"

    def config(self) -> Any:
        """Transformers' configuration."""
        return self.made


def shapes(device: str) -> dict[str, Shape]:
    """Of the real models; on the CPU, where only the program is tried, of toys."""
    spread: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
    if device == "cpu":
        words = len(toys.tokenizer())
        return {f"{family}, a toy": Shape(toys.config(family, words, 2, 4, 32), (1,)) for family in ("gpt2", "gptj")}
    xl = GPT2Config(n_embd=1600, n_layer=48, n_head=25, n_positions=2048, **spread)
    return {
        "GPT-J-6B": Shape(GPTJConfig(**spread)),
        "GPT2-XL": Shape(xl),
        "GPT2-XL, float32": Shape(xl, (1,), "float32", ("reweighting",)),
        "LLaMA-7B": Shape(LlamaConfig(**spread), (1,), only=("saliency", "label_relationships")),
    }


def task() -> Task:
    """Six classes, and prompts about as long as TREC's."""
    draw = random.Random(0)
    words = [word for word in toys.WORDS.split() if word not in CLASSES]

    def rows(n: int) -> tuple[Example, ...]:
        return tuple(
            Example(i, " ".join(draw.choices(words, k=draw.randint(2, 7))) + "?", i % len(CLASSES)) for i in range(n)
        )

    return Task(
        name="as long as trec",
        template=Template("Question: {text}\nAnswer Type:{label}"),
        separator="\n",
        label_words=tuple(f" {name}" for name in CLASSES),
        train=rows(600),
        test=rows(500),
        provenance=Provenance("made up", None, {}),
    )


class Device:
    """What is asked of a device; on the CPU there is nothing to wait for and no peak to read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cuda = name.startswith("cuda")

    def seconds(self, work: Callable[[], Any]) -> float:
        """How long it takes, with all that it left to the device."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        """Until it has done everything."""
        if self.cuda:
            torch.cuda.synchronize()

    @contextmanager
    def peak(self, found: dict[str, Any]) -> Iterator[None]:
        """`peak_gb` in the block, weights included."""
        if not self.cuda:
            yield
            return
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        yield
        found["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9

    def describe(self) -> dict[str, Any]:
        """Which one it is."""
        if not self.cuda:
            return {"device": "cpu", "torch": torch.__version__}
        driver = torch._C._cuda_getDriverVersion()
        return {
            "device": torch.cuda.get_device_name(),
            "driver": f"CUDA {driver // 1000}.{driver % 1000 // 10}",
            "torch": torch.__version__,
        }

    def matmul_tflops(self, dtype: torch.dtype) -> float:
        """The best of large products."""
        n = 8192 if self.cuda else 256
        a = torch.randn(n, n, device=self.name).to(dtype)
        best = min(self.seconds(lambda: a @ a) for _ in range(10))
        return 2 * n**3 / best / 1e12
