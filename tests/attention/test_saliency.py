"""Saliency flow against a plain autograd oracle in float64, written from the method sheet alone."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from anchorflow.attention import Attention, SaliencyFlow, backward, saliency, tapped
from anchorflow.attention.core import attention_weights, fold_mask
from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Saliency
from anchorflow.experiments.flows import read_examples
from anchorflow.models import LanguageModel, Shape
from anchorflow.prompts import ContextLimit, Prompt, PromptBuilder
from anchorflow.scoring import collate, label_log_probabilities, next_word_logits
from tests import oracle as plain
from tests.conftest import mapped, toy_prompts, toy_work


def products(lm: LanguageModel, prompt: Prompt) -> list[Tensor]:
    """A ⊙ ∂L/∂A of every layer, whole: [head, to, from]."""
    seen = plain.run(lm, prompt.ids)
    logits = seen.logits[prompt.target]
    loss = nn.functional.cross_entropy(logits[list(prompt.label_tokens)], torch.tensor(prompt.label))
    gradients = torch.autograd.grad(loss, seen.weights)
    return [(weights * gradient).detach() for weights, gradient in zip(seen.weights, gradients, strict=True)]


def maps(lm: LanguageModel, prompt: Prompt, per_head: bool = False) -> list[Tensor]:
    """I of every layer, whole."""
    found = products(lm, prompt)
    return [product.abs().sum(dim=0) if per_head else product.sum(dim=0).abs() for product in found]


def oracle(lm: LanguageModel, prompt: Prompt, per_head: bool = False) -> list[list[float]]:
    """[kind][layer]: one prompt, sums spelled out."""
    found: list[list[float]] = [[], [], []]
    for whole in maps(lm, prompt, per_head):
        flow = whole.tolist()
        wp = [flow[p][j] for p in prompt.anchors for j in range(p)]
        pq = [flow[prompt.target][p] for p in prompt.anchors]
        ww = [
            flow[i][j]
            for i in range(prompt.target + 1)
            for j in range(i)
            if i not in prompt.anchors and not (i == prompt.target and j in prompt.anchors)
        ]
        for kind, values in zip(found, (wp, pq, ww), strict=True):
            kind.append(sum(values) / len(values))
    return found


def run(lm: LanguageModel, prompts: list[Prompt], batch_tokens: int, experiment: Saliency | None = None) -> Tensor:
    """[prompt, kind, layer] from the experiment, in the prompts' order."""
    records = {r["query"]: r for r in mapped(experiment or Saliency(), lm, prompts, batch_tokens)}
    return torch.tensor([[records[p.query][k] for k in ("S_wp", "S_pq", "S_ww")] for p in prompts], dtype=torch.float64)


@pytest.mark.parametrize("shots", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch_tokens", [300, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10_000))])
def test_equal_to_the_oracle_alone_and_batched_with_padding(
    lm: LanguageModel, task: Task, shots: int, batch_tokens: int
) -> None:
    prompts = toy_prompts(lm, task, shots)
    assert len({len(p.ids) for p in prompts}) > 1, "no padding would be tested"
    expected = torch.tensor([oracle(lm, p) for p in prompts], dtype=torch.float64)
    torch.testing.assert_close(run(lm, prompts, batch_tokens), expected, rtol=1e-6, atol=0)


def test_heads_may_be_summed_after_the_absolute_value(lm: LanguageModel, task: Task) -> None:
    prompts = toy_prompts(lm, task)
    found = run(lm, prompts, 300, Saliency(heads="abs_then_sum"))
    expected = torch.tensor([oracle(lm, p, per_head=True) for p in prompts], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    before = run(lm, prompts, 300)
    assert bool((found >= before * (1 - 1e-12)).all())  # |Σ| is at most Σ|·|
    assert not torch.allclose(found, before)


def test_the_same_numbers_at_every_batch_size_and_with_few_heads_at_a_time(
    lm: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = toy_prompts(lm, task)
    alone = run(lm, prompts, 1)
    monkeypatch.setattr(backward, "MAP_BYTES", 1)
    for batch_tokens in (200, 500, 10_000):
        torch.testing.assert_close(run(lm, prompts, batch_tokens), alone, rtol=1e-6, atol=0)


def test_prompts_with_different_numbers_of_demonstrations_share_a_batch(lm: LanguageModel, task: Task) -> None:
    few, many = toy_prompts(lm, task, 1, 2), toy_prompts(lm, task, 2, 4)[2:]
    mixed = [*few, *many]
    expected = torch.tensor([oracle(lm, p) for p in mixed], dtype=torch.float64)
    torch.testing.assert_close(run(lm, mixed, 10_000), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch_tokens", [1, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strongest", [7, 100_000])
def test_the_strongest_flows_of_the_first_queries_are_kept(
    lm: LanguageModel,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_tokens: int,
    strongest: int,
) -> None:
    monkeypatch.setattr(saliency, "STRONGEST", strongest)
    experiment = Saliency(n_queries=6, keep_examples=4)
    work = toy_work(experiment, lm, task)
    records = {r["query"]: r for r in mapped(experiment, lm, work, batch_tokens, tmp_path)}
    kept, problems = read_examples(tmp_path)
    assert not problems
    first = {p.query: p for p in work.prompts[:4]}
    assert [example.query for example in kept] == sorted(first)
    assert len({len(example.tokens) for example in kept}) > 1, "no padding would be tested"
    for example in kept:
        prompt = first[example.query]
        assert "".join(example.tokens) == prompt.text
        assert tuple(example.demonstrations) == prompt.demonstrations
        assert example.label == prompt.label
        assert example.probs == records[example.query]["variants"]["full"]["probs"]
        assert example.means == {name: records[example.query][name] for name in ("S_wp", "S_pq", "S_ww")}
        for whole, flows, total in zip(maps(lm, prompt), example.strongest, example.totals, strict=True):
            pairs = whole.tril(-1)
            largest = pairs[pairs > 0].sort(descending=True).values[:strongest]
            to, start, values = (torch.tensor(column) for column in zip(*flows, strict=True))
            torch.testing.assert_close(values.double(), largest, rtol=1e-5, atol=0)
            torch.testing.assert_close(values.double(), pairs[to, start], rtol=1e-5, atol=0)
            assert total == pytest.approx(float(pairs.sum()), rel=1e-5)


@pytest.mark.parametrize("heads", ["sum_then_abs", "abs_then_sum"])
def test_kept_flows_know_their_sign_and_if_asked_each_head_s_part(
    lm: LanguageModel, task: Task, tmp_path: Path, heads: Literal["sum_then_abs", "abs_then_sum"]
) -> None:
    experiment = Saliency(n_queries=2, keep_examples=2, heads=heads, keep_heads=True)
    work = toy_work(experiment, lm, task)
    mapped(experiment, lm, work, 10_000, tmp_path)
    kept, _ = read_examples(tmp_path)
    prompts = {prompt.query: prompt for prompt in work.prompts}
    signs = set()
    for example in kept:
        whole = products(lm, prompts[example.query])
        for of_layer, flows, parts, of_flows in zip(
            whole, example.strongest, example.heads, example.signs, strict=True
        ):
            to, start, values = (torch.tensor(column) for column in zip(*flows, strict=True))
            expected = of_layer[:, to, start].T
            torch.testing.assert_close(torch.tensor(parts).double(), expected.double(), rtol=6e-3, atol=1e-9)
            combined = expected.abs().sum(dim=1) if heads == "abs_then_sum" else expected.sum(dim=1).abs()
            torch.testing.assert_close(combined.double(), values.double(), rtol=1e-5, atol=0)
            assert torch.equal(torch.tensor(of_flows).double(), expected.sum(dim=1).sign().double())
            signs |= set(of_flows)
    assert signs == {1, -1}


def test_no_example_is_kept_where_none_is_asked_for(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    experiment = Saliency(n_queries=2, keep_examples=0)
    mapped(experiment, lm, toy_work(experiment, lm, task), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_that_the_model_cannot_read_is_no_example(lm: LanguageModel, task: Task) -> None:
    experiment = Saliency(n_queries=6, keep_examples=2)
    prompts = toy_work(experiment, lm, task).prompts
    limit = sorted(p.length for p in prompts)[3]
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator, ContextLimit(limit))
    fitting = [p.query for p in prompts if p.length <= limit]
    assert list(experiment.prepare(task, builder, 42).pieces) == fitting[:2]


def test_gradients_pass_through_a_softcap() -> None:
    """Gemma 2 squeezes its scores; no toy family of the oracle does."""
    from transformers import AutoModelForCausalLM, Gemma2Config

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        head_dim=8,
        num_key_value_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
        attn_logit_softcapping=2.0,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)
    ids = torch.arange(1, 13)[None]

    gates: list[Tensor] = []

    def gated(attention, attend):  # type: ignore[no-untyped-def]
        batch, kv_heads = attention.key.shape[:2]
        query = attention.query.reshape(batch, kv_heads, -1, attention.query.shape[-1])
        mask = fold_mask(attention.mask, kv_heads, attention.group)
        weights = attention_weights(query, attention.key, mask, attention.scaling, attention.softcap)
        gates.append(torch.ones_like(weights, requires_grad=True))
        return ((weights * gates[-1]) @ attention.value).reshape(attention.query.shape)

    with tapped(model, gated):
        (-torch.log_softmax(model(input_ids=ids).logits[0, -1, :3], dim=-1)[0]).backward()
    flow = SaliencyFlow(
        Shape.of("toy", model.config), torch.tensor([[3, 7]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([11])
    )
    with tapped(model, flow):
        means = flow.gather(-torch.log_softmax(model(input_ids=ids).logits[0, -1, :3], dim=-1)[0])
    for layer, gate in enumerate(gates):
        expected = gate.grad.view(-1, 12, 12).sum(dim=0).abs()[11, [3, 7]].mean()
        torch.testing.assert_close(means[layer, 0, 1], expected, rtol=1e-6, atol=0)


def test_without_pairs_of_a_kind_there_is_no_mean_and_the_experiment_refuses_such_a_prompt(
    lm: LanguageModel, task: Task
) -> None:
    alone = replace(task, test=(replace(task.test[0], demonstrations=()),))
    with pytest.raises(
        UserError, match="experiment=saliency needs words before the label words; the prompt of test row 0"
    ):
        toy_work(Saliency(n_queries=1), lm, alone)
    nothing = SaliencyFlow(
        lm.shape, torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.bool), torch.tensor([4])
    )
    with tapped(lm.model, nothing):
        logits = lm.model(input_ids=torch.arange(1, 6)[None]).logits
        means = nothing.gather(-torch.log_softmax(logits[0, -1], dim=-1)[0])
    assert means[:, 0, :2].isnan().all()
    assert means[:2, 0, 2].isfinite().all()


def test_no_map_of_all_layers_is_kept(task: Task) -> None:
    """What autograd holds between the passes must not hold layers × heads × N² numbers."""
    from anchorflow.models import Tiny

    small = Tiny(layers=2, width=32, heads=4).load("cpu", "float32")
    prompt = toy_prompts(small, task, 3, 1)
    batch = collate(prompt, "cpu")
    n = len(prompt[0].ids)
    held: set[int] = set()
    flow = SaliencyFlow(small.shape, batch.anchors, batch.is_anchor, batch.targets)

    def pack(tensor: Tensor) -> Tensor:
        if tensor.ndim >= 3 and tensor.shape[-1] == n and tensor.shape[-2] >= n:
            assert tensor.numel() == n * n, f"more than one map: {tuple(tensor.shape)}"
            held.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), tapped(small.model, flow):
        logits = next_word_logits(small, batch)
        loss = -label_log_probabilities(logits, batch)[0, 0]
    flow.gather(loss)
    assert len(held) == 1, "of N × N there must be the model's mask alone, shared by its layers"


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("rows", [1, 3, 150])
def test_flow_and_gradients_are_those_of_the_formula_written_down(
    softcap: float | None, heads: tuple[int, int], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backward, "MIN_ROWS", 40)
    monkeypatch.setattr(backward, "MAP_BYTES", 8 * 2 * heads[0] * 150 * 40)  # so that 150 rows are several blocks
    generator = torch.Generator().manual_seed(0)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(2, *shape, generator=generator, dtype=torch.float64)

    length = 150
    query, key, value = made(heads[0], rows, 8), made(heads[1], length, 8), made(heads[1], length, 8)
    hidden = torch.ones(rows, length, dtype=torch.bool).triu(length - rows + 1)
    mask = torch.zeros(1, 1, rows, length, dtype=torch.float64).masked_fill(hidden, torch.finfo(torch.float64).min)
    attention = Attention(0, query, key, value, mask, 0.3, softcap)
    grad_output = made(heads[0], rows, 8)
    flow = torch.zeros(2, rows, length, dtype=torch.float64)

    def take(start: int, block: torch.Tensor, of_heads: torch.Tensor) -> None:
        torch.testing.assert_close(of_heads.sum(dim=1).abs(), block, rtol=1e-10, atol=1e-12)
        flow[:, start : start + block.shape[1], : block.shape[2]] += block

    plain_flow, plain = backward.plain_flow_and_gradients(attention, grad_output)
    found = backward.flow_and_gradients(attention, grad_output, take)
    assert found is not None
    for ours, theirs in zip((flow, *found), (plain_flow, *plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    flow.zero_()
    assert backward.flow_and_gradients(attention, grad_output, take, gradients=False) is None
    torch.testing.assert_close(flow, plain_flow, rtol=1e-10, atol=1e-12)


def rounded(tensor: Tensor) -> Tensor:
    """To the 10 bits of TF32's mantissa."""
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_tf32_costs_less_than_bfloat16_does(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that has none: products of the backward pass are rounded as a GPU would."""
    from anchorflow.models import Tiny

    def shares(dtype: str) -> Tensor:
        small = Tiny(family="gpt2", layers=4, width=64).load("cpu", dtype)
        means = run(small, toy_prompts(small, task), 1000).mean(dim=0)
        return means / means.sum(dim=0)

    whole, half = shares("float32"), shares("bfloat16")
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda a, b: matmul(rounded(a), rounded(b)))
    tf32 = shares("float32")
    assert 0 < (tf32 - whole).abs().max() < 5e-4
    assert (tf32 - whole).abs().max() < (half - whole).abs().max() / 3


def test_the_precision_of_products_is_as_before_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    with backward.matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
