"""Re-weighting: training on one position equals training on full prompts."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anchorflow.attention import Seen, reweighted, tapped
from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Classification, Reweighting
from anchorflow.experiments.reweighting import FILE
from anchorflow.models import LanguageModel, Shape
from anchorflow.prompts import Prompt
from anchorflow.scoring import after_demonstrations, next_word_logits, plan
from anchorflow.settings import fingerprint
from tests import oracle
from tests.conftest import mapped, toy_work


def label_logits(lm: LanguageModel, prompt: Prompt, beta: Tensor) -> Tensor:
    def reweigh(layer: int, weights: Tensor) -> Tensor:
        factor = torch.zeros_like(weights)
        factor[:, prompt.target, list(prompt.anchors)] = beta[layer]
        return weights * factor.exp()

    return oracle.run(lm, prompt.ids, of_weights=reweigh).logits[-1][list(prompt.label_tokens)]


@pytest.mark.parametrize(("shots", "batch_tokens"), [(1, 1024), (2, 1024), (1, 1)])
def test_the_same_losses_and_beta_as_training_on_full_prompts(
    lm: LanguageModel, task: Task, shots: int, batch_tokens: int, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    experiment = Reweighting(n_queries=3, shots_per_class=shots, train_per_class=2, epochs=3)
    work = toy_work(experiment, lm, task)
    records = mapped(experiment, lm, work, batch_tokens, tmp_path)

    shape = lm.shape
    beta = torch.zeros(shape.layers, shape.heads, 3 * shots, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([beta], lr=0.01, betas=(0.9, 0.999))
    order, generator = list(range(len(work.training))), random.Random(f"{work.seed}/epochs")
    losses = []
    for _ in range(3):
        generator.shuffle(order)
        epoch = {}
        for i in order:
            prompt = work.training[i]
            loss = cross_entropy(label_logits(lm, prompt, beta)[None], torch.tensor([prompt.label]))
            adam.zero_grad()
            loss.backward()
            adam.step()
            epoch[i] = loss.item()
        losses.append([epoch[i] for i in range(len(order))])
    (found,) = [record["learned"] for record in records if "learned" in record]
    assert found["train_loss"] == [pytest.approx(epoch, rel=1e-6) for epoch in losses]
    torch.testing.assert_close(load_file(tmp_path / FILE)["beta"], beta.detach(), rtol=1e-5, atol=1e-6)
    assert torch.tensor(found["beta"]).shape == (shape.layers, shape.heads)
    for record, prompt in zip(records, work.prompts, strict=True):
        for name, value in (("vanilla", beta * 0), ("reweighted", beta)):
            probs = label_logits(lm, prompt, value).softmax(dim=0).tolist()
            assert record["variants"][name]["probs"] == pytest.approx(probs, rel=1e-3), name


@pytest.mark.parametrize("batch_tokens", [1, 300, 10_000])
def test_beta_of_zero_is_vanilla_and_any_other_is_the_formula(lm: LanguageModel, task: Task, batch_tokens: int) -> None:
    work = toy_work(Reweighting(n_queries=4), lm, task)
    shape = lm.shape
    zero = torch.zeros(shape.layers, shape.heads, 3, dtype=torch.float64)
    beta = torch.randn(zero.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for prompts, batch, context in after_demonstrations(lm, plan(work.prompts, batch_tokens, shared=True)):
        seen, alone = Seen(batch.targets, len(batch.context)), batch.targets_alone()
        size = (len(prompts), *zero.shape)
        with tapped(lm.model, seen):
            vanilla = next_word_logits(lm, batch, context)
        with tapped(lm.model, seen.alone(reweighted(zero.expand(size), batch.anchors))):
            torch.testing.assert_close(next_word_logits(lm, alone), vanilla, rtol=1e-9, atol=1e-9)
        with tapped(lm.model, seen.alone(reweighted(beta.expand(size), batch.anchors))):
            changed = next_word_logits(lm, alone)[:, batch.label_tokens]
        for row, prompt in zip(changed, prompts, strict=True):
            torch.testing.assert_close(row, label_logits(lm, prompt, beta), rtol=1e-6, atol=1e-6)


def test_a_saved_beta_is_used_again_and_follows_its_classes(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    first = Reweighting(n_queries=3, epochs=1, train_per_class=1)
    learned = mapped(first, lm, toy_work(first, lm, task), folder=tmp_path)
    again = Reweighting(n_queries=3, beta=str(tmp_path / FILE))
    work = toy_work(again, lm, task)
    assert not work.training
    (tmp_path / "again").mkdir()
    records = mapped(again, lm, work, folder=tmp_path / "again")
    for a, b in zip(learned, records, strict=True):
        assert a["variants"]["reweighted"]["probs"] == pytest.approx(b["variants"]["reweighted"]["probs"], rel=1e-9)
    assert "train_loss" not in again.reduce(records, task.labels).curves
    assert (tmp_path / "again" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()

    from safetensors.torch import load_file

    seeds = {s: toy_work(again, lm, task, seed=s) for s in range(43, 60)}
    orders = {s: [d.label for d in w.prompts[0].demonstrations] for s, w in seeds.items()}
    shown = [d.label for d in work.prompts[0].demonstrations]
    other = next(s for s, order in orders.items() if order != shown)
    (tmp_path / "other").mkdir()
    mapped(again, lm, seeds[other], folder=tmp_path / "other")
    one, two = (load_file(folder / FILE)["beta"] for folder in (tmp_path, tmp_path / "other"))
    for label in range(3):
        assert torch.equal(one[:, :, shown.index(label)], two[:, :, orders[other].index(label)])


def test_the_identity_of_a_saved_beta_is_its_content(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    experiment = Reweighting(n_queries=1, epochs=1, train_per_class=1)
    mapped(experiment, lm, toy_work(experiment, lm, task), folder=tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / FILE).write_bytes((tmp_path / FILE).read_bytes())
    here, copy = Reweighting(beta=str(tmp_path)), Reweighting(beta=str(tmp_path / "copy" / FILE), epochs=3)
    assert fingerprint(here) == fingerprint(copy)
    assert fingerprint(here) != fingerprint(Reweighting()) != fingerprint(Reweighting(epochs=3))


def test_a_beta_of_something_else_is_refused(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    experiment = Reweighting(n_queries=1, epochs=1, train_per_class=1)
    mapped(experiment, lm, toy_work(experiment, lm, task), folder=tmp_path)
    shape = lm.shape
    with pytest.raises(
        UserError, match=rf"{shape.heads} heads and 3 demonstrations; this run has 12 layers, 6 heads and 3"
    ):
        Reweighting(n_queries=1, beta=str(tmp_path)).check(task, Shape("other", 12, 6))
    with pytest.raises(UserError, match=r"and 3 demonstrations; this run has .* and 6 demonstrations"):
        Reweighting(n_queries=1, beta=str(tmp_path), shots_per_class=2).check(task, shape)
    with pytest.raises(UserError, match=r"which is not there; allowed: the beta\.safetensors"):
        Reweighting(n_queries=1, beta=str(tmp_path / "nothing")).check(task, shape)
    (tmp_path / "garbage").write_text("?")
    with pytest.raises(UserError, match="has no β"):
        Reweighting(n_queries=1, beta=str(tmp_path / "garbage")).check(task, shape)


def test_too_few_examples_to_learn_from_are_named(task: Task) -> None:
    with pytest.raises(UserError, match=r"train_per_class is 11; the train split of toy has 10 examples of 'Person'\."):
        Reweighting(n_queries=1, train_per_class=10).check(task, Shape("any", 3, 4))


def test_examples_to_learn_from_are_neither_shown_nor_shared(lm: LanguageModel, task: Task) -> None:
    work = toy_work(Reweighting(n_queries=2, shots_per_class=2, train_per_class=4), lm, task)
    assert sorted(p.label for p in work.training) == sorted([0, 1, 2] * 4)
    assert {p.context for p in (*work.training, *work.prompts)} == {work.prompts[0].context}
    texts = [p.text[p.text.rindex("Question") :] for p in work.training]
    assert len(set(texts)) == 12
    assert not any(text.removesuffix("Answer Type:") in work.prompts[0].text for text in texts)


def test_more_demonstrations_are_those_of_fewer_and_the_examples_that_beta_is_learned_on(task: Task) -> None:
    (one, _), (five, _) = (next(Classification(n_queries=1, shots_per_class=n).draw(task, 42)) for n in (1, 5))
    assert list(five) == [*one, *Reweighting(n_queries=1, train_per_class=4)._further(task, 42)]


def test_gain_is_paired_and_the_loss_is_per_epoch() -> None:
    def record(query: int, before: int, after: int) -> dict[str, object]:
        def variant(best: int) -> dict[str, list[float]]:
            return {"probs": [float(best == 0), float(best == 1)], "top5": []}

        return {"query": query, "label": 1, "variants": {"vanilla": variant(before), "reweighted": variant(after)}}

    records = [record(0, 1, 1), record(1, 0, 1), record(2, 0, 0), record(3, 1, 1)]
    records[0]["learned"] = {"beta": [[0.1, -0.1]], "train_loss": [[2.0, 4.0], [1.0, 1.0]]}
    result = Reweighting().reduce(records, ["a", "b"])
    assert (result.metrics["vanilla/accuracy"], result.metrics["reweighted/accuracy"]) == (0.5, 0.75)
    assert (result.metrics["gain"], result.stderr["gain"]) == (0.25, pytest.approx(0.25))
    assert list(result.curves["train_loss"].values) == [3.0, 1.0]
    assert list(result.curves["train_loss"].stderr or ()) == [1.0, 0.0]
    assert (result.tables["beta"].rows, result.tables["beta"].columns) == (["1"], ["1", "2"])
