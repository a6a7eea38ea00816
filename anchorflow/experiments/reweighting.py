"""Learned weights on the attention to the label words (Label Words are Anchors, sec. 3.1, table 1)."""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from anchorflow.data import Example, Task
from anchorflow.errors import UserError
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.paths import expanded
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.results import Curve, Record, Result, Table, statistics
from anchorflow.settings import configurable, setting

if TYPE_CHECKING:
    import torch

    from anchorflow.attention import Context, Seen
    from anchorflow.models import LanguageModel, Shape
    from anchorflow.scoring import Batch

log = logging.getLogger(__name__)
FILE = "beta.safetensors"


@dataclass(frozen=True, kw_only=True)
class ReweightingWork(Queries):
    """Also `training`: the prompts on which β is learned."""

    training: tuple[Prompt, ...] = ()


@configurable
class Reweighting(FewShot):
    """A'[l,h](q, p_k) = exp(β[l,h,k]) · A[l,h](q, p_k), with one β for each layer, head and demonstration.

    Adam learns β on the next `train_per_class` examples of each class after the same demonstrations, one example at a time;
    or β is loaded from the file `beta` of an earlier run.
    """

    name: ClassVar[str] = "reweighting"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps", "context", "last token")
    lr: float = 0.01
    """Adam's learning rate."""
    epochs: int = 10
    """Number of passes over the training examples."""
    train_per_class: int = 4
    """Number of train examples per class on which β is learned: those that `shots_per_class` plus this number would add."""
    beta: str | None = setting(default=None, kind="source")
    """A saved β (the file, or the directory of its run) to use instead of learning one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}; allowed: more than 0, and finite")
        for key in ("epochs", "train_per_class"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 1 or more")

    def unused(self) -> tuple[str, ...]:
        """With a saved β, the settings of the training that it replaces."""
        return () if self.beta is None else ("lr", "epochs", "train_per_class")

    def content(self) -> dict[str, Any]:
        """The hash of a saved β."""
        return {"beta": None if self.beta is None else hashlib.sha256(self._file().read_bytes()).hexdigest()}

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError for too few examples, rows with their own demonstrations, or a β of another shape."""
        super().check(task, shape)
        self.refuse_own_demonstrations(task, "learns one β for")
        if self.beta is not None:
            self._load(shape, len(task.labels) * self.shots_per_class)
        else:
            self._further(task, 0)

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> ReweightingWork:
        """Also the training prompts: the same demonstrations, other examples."""
        prompts = self.prompts(task, builder, seed)
        if self.beta is not None:
            return ReweightingWork(prompts=prompts, seed=seed)
        shown = self.shared_demonstrations(task, seed, self.shots_per_class)
        training = [builder.build(shown, example) for example in self._further(task, seed)]
        fitting, _ = builder.limit.sort_out(training, "training example", "training examples")
        if {prompt.label for prompt in fitting} < {prompt.label for prompt in training}:
            raise UserError(f"all training examples of a class are longer than {builder.limit}.")
        return ReweightingWork(prompts=prompts, seed=seed, training=tuple(fitting))

    def map(
        self,
        lm: LanguageModel,
        work: ReweightingWork,
        batches: Iterable[Sequence[Prompt]],
        folder: Path,
        batch_tokens: int,
    ) -> Iterator[list[Record]]:
        """Records with the variants `vanilla` and `reweighted`; the first record also has β and the losses."""
        import torch

        from anchorflow.attention import Seen, reweighted, tapped
        from anchorflow.scoring import after_demonstrations, next_word_logits, only, scores

        beta, losses = None, None
        for prompts, batch, context in after_demonstrations(lm, batches):
            found: list[Record] = [{**p.head} for p in prompts]
            if beta is None:
                demonstrated = [demonstration.label for demonstration in prompts[0].demonstrations]
                if self.beta is None:
                    beta, losses = learn(lm, batch.context, context, work, self.lr, self.epochs, batch_tokens)
                else:
                    beta = _reordered(*self._load(lm.shape, len(demonstrated)), demonstrated).to(lm.device)
                _save(folder / FILE, beta, demonstrated)
                # In the records, because the result depends only on them. A resumed run learns the same β again.
                found[0]["learned"] = {"beta": beta.mean(dim=2).tolist(), "train_loss": losses}
            seen, alone = Seen(batch.targets, len(batch.context)), batch.targets_alone()
            change = reweighted(beta.expand(len(prompts), -1, -1, -1), batch.anchors)
            with torch.no_grad():
                with tapped(lm.model, seen, only=only(lm, batch)):
                    vanilla = scores(next_word_logits(lm, batch, context), batch)
                with tapped(lm.model, seen.alone(change)):
                    changed = scores(next_word_logits(lm, alone), alone)
            for record, before, after in zip(found, vanilla, changed, strict=True):
                record["variants"] = {"vanilla": before, "reweighted": after}
            yield found

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Accuracy with and without β, the training loss of every epoch, and β by layer and head."""
        truth = variants.truth(records)
        right = {v: variants.probs(records, v).argmax(axis=1) == truth for v in ("vanilla", "reweighted")}
        values, stderr = {}, {}
        for variant, hits in right.items():
            values[f"{variant}/accuracy"] = float(hits.mean())
            stderr[f"{variant}/accuracy"] = statistics.proportion_stderr(float(hits.mean()), len(records))
        # Paired by query: its standard error is smaller than those of the two accuracies suggest.
        gain, gain_stderr = statistics.mean_and_stderr((right["reweighted"].astype(float) - right["vanilla"])[:, None])
        values["gain"], stderr["gain"] = float(gain[0]), float(gain_stderr[0])
        learned = next((record["learned"] for record in records if "learned" in record), None)
        curves, tables, notes = {}, {}, []
        if learned is not None:
            beta = learned["beta"]
            tables["beta"] = Table(
                [str(layer + 1) for layer in range(len(beta))], [str(head + 1) for head in range(len(beta[0]))], beta
            )
            if learned["train_loss"] is not None:
                losses = np.array(learned["train_loss"])  # epoch, example
                mean, error = statistics.mean_and_stderr(losses.T)
                wanted = self.train_per_class * len(labels)
                if losses.shape[1] < wanted:
                    notes.append(
                        f"β was learned on {losses.shape[1]} of {wanted} examples; the others exceed the context"
                    )
                curves["train_loss"] = Curve("epoch", range(1, len(losses) + 1), mean.tolist(), error.tolist())
        return Result(metrics=values, stderr=stderr, curves=curves, tables=tables, notes=notes)

    def _further(self, task: Task, seed: int) -> list[Example]:
        """The training examples: those that more demonstrations per class would add, as in the baseline of table 1."""
        drawn = self.shared_demonstrations(
            task,
            seed,
            self.shots_per_class + self.train_per_class,
            setting="experiment.shots_per_class + experiment.train_per_class",
        )
        return drawn[self.shots_per_class * len(task.labels) :]

    def _file(self) -> Path:
        path = expanded(str(self.beta))
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"experiment.beta is {str(self.beta)!r}, which is not there; allowed: the {FILE} of a run.")
        return path

    def _load(self, shape: Shape, demonstrations: int) -> tuple[torch.Tensor, list[int]]:
        """β and the classes of its demonstrations. UserError if it was learned for another model or other demonstrations."""
        from safetensors import SafetensorError, safe_open

        path = self._file()
        try:
            with safe_open(path, "pt") as file:
                beta, classes = file.get_tensor("beta"), file.metadata()["classes"]
        except (SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"experiment.beta is {str(self.beta)!r}, which has no β ({error}).") from error
        wanted = (shape.layers, shape.heads, demonstrations)
        if tuple(beta.shape) != wanted:
            learned, here = (f"{a} layers, {b} heads and {c} demonstrations" for a, b, c in (beta.shape, wanted))
            raise UserError(f"experiment.beta is {str(self.beta)!r}, learned for {learned}; this run has {here}.")
        return beta, [int(c) for c in classes.split()]


def learn(
    lm: LanguageModel,
    shared: tuple[int, ...],
    context: Context,
    work: ReweightingWork,
    lr: float,
    epochs: int,
    batch_tokens: int,
) -> tuple[torch.Tensor, list[list[float]]]:
    """β [layer, head, demonstration], and the loss at every example before its step [epoch][example].

    β changes only row q, so the keys and values of all other positions are computed once, and an example of an epoch
    runs a single position through the model. `context` is the KV cache of the `shared` tokens.
    """
    import torch
    from torch.nn.functional import nll_loss
    from tqdm import tqdm

    from anchorflow.attention import reweighted, tapped
    from anchorflow.experiments import descent
    from anchorflow.scoring import next_word_logits

    seen, batch, most = _see(lm, shared, context, work.training, batch_tokens)

    def gradients(rows: Sequence[int], beta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses at these examples and their gradients, each example with its own β."""
        alone = batch.targets_alone(rows)
        beta.requires_grad_()
        with torch.enable_grad(), tapped(lm.model, seen.of(rows).alone(reweighted(beta, alone.anchors))):
            logits = next_word_logits(lm, alone, label_words_only=True)
            log_probabilities = torch.log_softmax(logits, dim=-1)
            loss = nll_loss(log_probabilities, alone.labels.to(logits.device), reduction="none")
            return loss.detach(), torch.autograd.grad(loss.sum(), beta)[0]

    order = list(range(len(work.training)))
    shuffle = random.Random(f"{work.seed}/epochs").shuffle
    turns = []
    for epoch in range(epochs):
        shuffle(order)
        turns += [(epoch, i) for i in order]
    precision = torch.promote_types(lm.dtype, torch.float32)
    size = (lm.shape.layers, lm.shape.heads, len(work.training[0].anchors))
    beta = torch.zeros(size, dtype=precision, device=lm.device)
    # A smaller tolerance would be finer than the rounding of the gradients.
    tolerance = lr * torch.finfo(lm.dtype).eps ** 0.5
    steps = descent.adam(beta, [i for _, i in turns], gradients, lr, tolerance, min(most, descent.MOST))
    losses = [[0.0] * len(order) for _ in range(epochs)]
    for (epoch, i), (loss, after) in tqdm(
        zip(turns, steps, strict=True), "learning β", len(turns), unit="step", mininterval=0.5, leave=False
    ):
        losses[epoch][i], beta = loss, after
        # A β that is not finite gives a loss that is not finite; checking β itself would wait for the GPU.
        last = (epoch, i) == turns[-1]
        if not math.isfinite(loss) or (last and not bool(beta.isfinite().all())):
            raise UserError(
                f"β is nan or infinite after training with lr={lr}; try a smaller experiment.lr, or dtype=float32."
            )
    log.info("learned β: loss %.3f in the first epoch, %.3f in the last", *(float(np.mean(losses[i])) for i in (0, -1)))
    return beta, losses


def _see(
    lm: LanguageModel, shared: tuple[int, ...], context: Context, training: Sequence[Prompt], batch_tokens: int
) -> tuple[Seen, Batch, int]:
    """What the targets of the training examples see, the examples as one batch, and the number of targets per pass."""
    import torch

    from anchorflow.attention import Seen, read, tapped
    from anchorflow.scoring import LENT, collate, next_word_logits, only, plan

    # The last token before an example's text may differ: a blank can merge with the word after it.
    columns = zip(*(prompt.shared for prompt in training), strict=False)
    common = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
    parts, found = [], []
    for prompts in plan(training, batch_tokens, shared=True):
        batch = collate(prompts, lm.device, prompts[0].shared)
        parts.append(Seen(batch.targets, common))
        before = context if batch.context == shared else read(lm.model, batch.context, lm.device)
        with torch.no_grad(), tapped(lm.model, parts[-1], only=only(lm, batch)):
            next_word_logits(lm, batch, before, label_words_only=True)
        found += prompts
    whole = collate(training, lm.device)
    # The other positions have only keys and values, so the budget counts them like a shared context.
    most = max(1, LENT * batch_tokens // (whole.ids.shape[1] - common))
    return parts[0].joined(parts[1:]).of([found.index(prompt) for prompt in training]), whole, most


def _save(path: Path, beta: torch.Tensor, classes: Sequence[int]) -> None:
    from safetensors.torch import save

    from anchorflow.results import write_atomically

    content = save({"beta": beta.cpu().contiguous()}, metadata={"classes": " ".join(str(c) for c in classes)})
    write_atomically(path, content)


def _reordered(beta: torch.Tensor, learned: Sequence[int], shown: Sequence[int]) -> torch.Tensor:
    """β for demonstrations in another order: each class keeps its own values."""
    if sorted(learned) != sorted(shown):
        raise UserError(
            f"experiment.beta was learned for demonstrations of the classes {learned}; here they are {shown}."
        )
    left = list(enumerate(learned))
    columns = []
    for label in shown:
        match = next(pair for pair in left if pair[1] == label)
        left.remove(match)
        columns.append(match[0])
    return beta[:, :, columns]
