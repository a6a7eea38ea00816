"""Two sides of a comparison: each in a process of its own, as a user would run it, on the same model, in turns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config

from anchorflow.models import LanguageModel, prepare

SIDES = ("ours", "plain")


class Side:
    """The process of one side, which runs `module` with these arguments; there `serve` answers."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )

    def turn(self, order: str = "") -> Any:
        """Let it do one round, and wait for what it says about its seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("a side has ended early; what it said stands above")
        return json.loads(answer)

    def end(self) -> dict[str, Any]:
        """`mb`, its peak memory above that of the loaded model, and what it `found` in its last round."""
        return json.loads(self._process.communicate()[0])


def serve(turn: Callable[[str], tuple[Any, Any]]) -> None:
    """Be a side: a line in is an order for one round, of which `turn` gives the seconds and the numbers found.

    The seconds come out at once. When the input ends, the peak memory and the last round's numbers come out.
    """
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before, found = _memory("VmRSS"), None
    for line in sys.stdin:
        seconds, found = turn(line.strip())
        print(json.dumps(seconds), flush=True)
    print(json.dumps({"mb": _memory("VmHWM") - before, "found": found}))


def _memory(field: str) -> float:
    """VmRSS or VmHWM (its peak) of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def gpt2_small(side: str, tokenizer: Any) -> LanguageModel:
    """GPT-2 small from its configuration, with random weights and room for 2048 positions; ours is prepared as in a run."""
    torch.manual_seed(0)
    config = GPT2Config(n_positions=2048, bos_token_id=None, eos_token_id=None)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    if side == "ours":
        return prepare("gpt2-small-sized", model, tokenizer)
    return LanguageModel("gpt2-small-sized", model, tokenizer)


def difference(ours: Any, plain: Any) -> float:
    """The largest relative difference between nested lists of numbers of one shape; nan where a number is nan."""
    a, b = (torch.tensor(numbers, dtype=torch.float64) for numbers in (ours, plain))
    if a.shape != b.shape:
        raise ValueError(f"the sides found numbers of different shape: {tuple(a.shape)} and {tuple(b.shape)}")
    return ((a - b).abs() / b.abs().clamp(min=1e-12)).max().item()
