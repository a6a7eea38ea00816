"""What each experiment's records should hold, from whole prompts through the eager oracle alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from anchorflow.data import Task
from anchorflow.experiments import Experiment
from anchorflow.experiments.flows import FLOWS
from anchorflow.experiments.label_relationships import LabelRelationships
from anchorflow.models import Shape
from anchorflow.prompts import Prompt, PromptBuilder
from tests.families import oracle
from tests.families.oracle import NoOracle

Named = dict[str, Any]
"""Of one record: numbers (nested lists) by what they are. A NoOracle among them says why there are none."""


class Expected:
    """Oracles for one model and task; `records(experiment)` has an entry for every record, in the units' order."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, task: Task, seed: int) -> None:
        self.model, self.task, self.seed = model, task, seed
        self.builder = PromptBuilder(tokenizer, task.template, task.label_words, task.separator)
        self.layers = oracle.n_layers(model)

    def records(self, experiment: Experiment) -> dict[int, Named]:
        """By the number of the unit."""
        work: Any = experiment.prepare(self.task, self.builder, self.seed)
        if isinstance(experiment, LabelRelationships):
            return {unit.number: self._curves(work, unit) for unit in work.units}
        of_one = getattr(self, f"_{experiment.name}")
        if experiment.name == "reweighting":
            of_one = self._reweighting(experiment, work)
        return {prompt.query: of_one(experiment, work, prompt) for prompt in work.units}

    def plain(self, ids: Sequence[int], label_tokens: Sequence[int], of_scores: Any = oracle.unchanged) -> list[float]:
        """Probabilities over the label words."""
        return oracle.logits_at(self.model, ids, of_scores)[list(label_tokens)].softmax(dim=0).tolist()

    def _full(self, prompt: Prompt) -> list[float]:
        return self.plain(prompt.ids, prompt.label_tokens)

    def _seen(self, prompt: Prompt, all_layers: str = "") -> oracle.Seen:
        """NoOracle where the attention maps cannot be had."""
        with torch.no_grad():
            seen = oracle.run(self.model, prompt.ids)
        seen.need(self.layers, all_layers, bool(all_layers))
        return seen

    # --- logits alone -------------------------------------------------------------------------------

    def _classification(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        return {"full": self._full(prompt)}

    def _curves(self, work: Any, unit: Any) -> Named:
        found = {}
        for name, series in unit.series.items():
            along = self._along(series)
            if name in work.content_free:
                priors = torch.stack([self._along(prompt)[0] for prompt in work.content_free[name]])
                along = torch.log_softmax(along - priors.mean(dim=0), dim=-1)
            found[name] = along.exp().tolist()
        return found

    def _along(self, series: Any) -> Tensor:
        # Each target in a prompt of its own: a model that sees the future would otherwise agree with itself.
        rows = [oracle.logits_at(self.model, series.ids[: t + 1])[list(series.label_tokens)] for t in series.targets]
        return torch.log_softmax(torch.stack(rows), dim=-1)

    # --- attention maps -----------------------------------------------------------------------------

    def _attention_prediction(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        found: Named = {"full": self._full(prompt)}
        try:
            seen = self._seen(prompt)
        except NoOracle as error:
            return found | {"label_attention": error}
        rows = []
        for weights in seen.maps(len(prompt.ids)):
            row = [0.0] * len(prompt.label_tokens)
            for d in prompt.demonstrations:
                row[d.label] += float(weights[:, prompt.target, d.anchor].sum())
            rows.append(row)
        return found | {"label_attention": rows}

    def _diagnosis(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        found: Named = {"full": self._full(prompt)}
        try:
            seen = self._seen(prompt)
            if len(seen.query) < len(seen.layers):
                raise NoOracle("no product of queries and keys is caught")
        except NoOracle as error:
            return found | {"query_vectors": error, "anchor_products": error}
        vectors, products = [], []
        for query, key in zip(seen.query, seen.key, strict=True):
            at = query[:, prompt.target]
            key = key.repeat_interleave(len(query) // len(key), dim=0)
            row: list[list[float]] = [[] for _ in prompt.label_tokens]
            for d in prompt.demonstrations:
                row[d.label].append(float((at * key[:, d.anchor]).sum()))
            vectors.append(at.flatten().tolist())
            products.append([sum(values) / len(values) for values in row])
        return found | {"query_vectors": vectors, "anchor_products": products}

    def _saliency(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        found: Named = {"full": self._full(prompt)}
        with torch.enable_grad():
            seen = oracle.run(self.model, prompt.ids)
            try:
                seen.need(self.layers, "")
            except NoOracle as error:
                return found | dict.fromkeys(FLOWS, error)
            logits = seen.logits[prompt.target][list(prompt.label_tokens)].float()
            loss = nn.functional.cross_entropy(logits[None], torch.tensor([prompt.label]))
            slopes = torch.autograd.grad(loss, seen.weights, allow_unused=True)
        rows: Named = {flow: [] for flow in FLOWS}
        n, anchors = len(prompt.ids), list(prompt.anchors)
        slopes = [torch.zeros_like(w) if s is None else s for w, s in zip(seen.weights, slopes, strict=True)]
        for weights, slope in zip(seen.maps(n), oracle.as_maps(slopes, n), strict=True):
            flow = (weights * slope).detach().double().sum(dim=0).abs()
            wp = torch.zeros(n, n, dtype=torch.bool)
            wp[anchors] = True
            wp = wp.tril(-1)
            pq = torch.zeros(n, n, dtype=torch.bool)
            pq[prompt.target, anchors] = True
            ww = torch.ones(n, n, dtype=torch.bool).tril(-1) & ~wp & ~pq
            for name, where in zip(FLOWS, (wp, pq, ww), strict=True):
                rows[name].append(float(flow[where].mean()))
        return found | rows

    # --- changed attention --------------------------------------------------------------------------

    def _isolation(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        found: Named = {"full": self._full(prompt)}
        changes = experiment.changes(Shape.of("oracle", self.model.config))
        try:
            attending = self._seen(prompt).layers
        except NoOracle as error:
            return found | {change.name: error for change in changes}
        for change in changes:
            assert set(change.layers) <= set(attending), "these layers have no attention map"
            rows = experiment.positions(prompt, change, change.layers[0], work.seed)
            found[change.name] = self.plain(
                prompt.ids, prompt.label_tokens, oracle.hidden_from(rows, range, change.layers)
            )
        return found

    def _compression(self, experiment: Any, work: Any, prompt: Prompt) -> Named:
        bare = work.text_anchors[prompt.query]
        found: Named = {"full": self._full(prompt), "text_anchor": self.plain(bare.ids, bare.label_tokens)}
        sets = experiment.positions_kept(prompt, work.seed)
        try:
            self._seen(prompt, "a cut context")
        except NoOracle as error:
            return found | dict.fromkeys(sets, error)
        context = len(prompt.context)
        for name, kept in sets.items():
            dropped = sorted(set(range(context)) - set(kept))
            rows = range(context, len(prompt.ids))
            change = oracle.hidden_from(rows, lambda _, dropped=dropped: dropped, range(self.layers))
            found[name] = self.plain(prompt.ids, prompt.label_tokens, change)
        return found

    def _reweighting(self, experiment: Any, work: Any) -> Any:
        try:
            seen = self._seen(work.prompts[0])
        except NoOracle as error:
            return lambda experiment, work, prompt, error=error: {"vanilla": self._full(prompt), "reweighted": error}
        beta = self._learned(experiment, work, seen)

        def of_one(experiment: Any, work: Any, prompt: Prompt) -> Named:
            with torch.no_grad():
                changed = self._reweighted(prompt, beta, seen.layers).softmax(dim=0).tolist()
            return {"vanilla": self._full(prompt), "reweighted": changed}

        return of_one

    def _learned(self, experiment: Any, work: Any, seen: oracle.Seen) -> Tensor:
        """β after Adam's steps on full prompts, one after another."""
        heads = max(len(weights) for weights in seen.maps(len(work.prompts[0].ids)))
        beta = torch.zeros(len(seen.layers), heads, len(work.prompts[0].anchors), requires_grad=True)
        adam = torch.optim.Adam([beta], lr=experiment.lr, betas=(0.9, 0.999))
        order, generator = list(range(len(work.training))), random.Random(f"{work.seed}/epochs")
        for _ in range(experiment.epochs):
            generator.shuffle(order)
            for i in order:
                prompt = work.training[i]
                logits = self._reweighted(prompt, beta, seen.layers)
                adam.zero_grad()
                nn.functional.cross_entropy(logits[None], torch.tensor([prompt.label])).backward()
                adam.step()
        return beta.detach()

    def _reweighted(self, prompt: Prompt, beta: Tensor, layers: Sequence[int]) -> Tensor:
        def change(layer: int, weights: Tensor) -> Tensor:
            factor = torch.zeros_like(weights)
            factor[:, :, prompt.target, list(prompt.anchors)] = beta[layers.index(layer), : weights.shape[1]]
            return weights * factor.exp()

        seen = oracle.run(self.model, prompt.ids, of_weights=change)
        return seen.logits[-1][list(prompt.label_tokens)].float()
