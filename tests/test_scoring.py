"""A context that is read once gives what full prompts give: for every family, batch size and part of it."""

from pathlib import Path

import pytest
import torch

from anchorflow.attention import Context, Halfway, read
from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Classification
from anchorflow.models import LanguageModel, Tiny
from anchorflow.prompts import Prompt
from anchorflow.scoring import Contexts, collate, next_word_logits, plan
from tests import oracle
from tests.attention.test_backend import REACHED, make
from tests.conftest import toy_prompts, toy_work

EXACT = 1e-5
"""In float64; GPT-J's and GPT-Neo's own attention rounds to float32 whatever the model is in."""


def prompts_of(lm: LanguageModel, task: Task, shots: int = 1) -> list[Prompt]:
    return list(toy_work(Classification(n_queries=8, shots_per_class=shots), lm, task).prompts)


@pytest.mark.parametrize("shots", [0, 1, 2])
@pytest.mark.parametrize("batch_tokens", [1, 300, 10_000])
def test_equal_to_full_prompts(lm: LanguageModel, task: Task, shots: int, batch_tokens: int) -> None:
    prompts = prompts_of(lm, task, shots)
    for batch in plan(prompts, batch_tokens, shared=True):
        b = collate(batch, lm.device, batch[0].shared)
        assert b.ids.shape[1] == max(len(p.ids) for p in batch) - len(b.context) < max(len(p.ids) for p in batch)
        found = next_word_logits(lm, b, read(lm.model, b.context, lm.device))
        for row, p in zip(found, batch, strict=True):
            torch.testing.assert_close(row, oracle.run(lm, p.ids).logits[-1], rtol=EXACT, atol=EXACT)


def test_in_float32_equal_to_five_digits(task: Task) -> None:
    lm = Tiny().load("cpu", "float32")
    prompts = prompts_of(lm, task, 2)
    b = collate(prompts, lm.device, prompts[0].context)
    found = torch.log_softmax(next_word_logits(lm, b, read(lm.model, b.context, lm.device)), dim=-1)
    for row, p in zip(found, prompts, strict=True):
        alone = torch.log_softmax(lm.model(input_ids=torch.tensor([p.ids])).logits[0, -1], dim=-1)
        torch.testing.assert_close(row, alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", REACHED)
def test_every_family_goes_on_from_a_context_as_if_it_had_read_it(family: str) -> None:
    """Also contexts longer than a sliding window."""
    single = family in ("gpt_oss", "xglm")  # whose own code takes no float64
    model = make(family, REACHED[family]).to(torch.float32 if single else torch.float64)
    exact = {"rtol": 1e-4 if single else EXACT, "atol": 1e-4 if single else EXACT}
    lm = LanguageModel(family, model, None)
    generator = torch.Generator().manual_seed(1)
    texts = [tuple(torch.randint(1, 64, (n,), generator=generator).tolist()) for n in (9, 3, 5, 1)]
    context, follow = texts[0], texts[1:]
    prompts = [Prompt(i, 0, (*context, *ids), (), (1, 2), "") for i, ids in enumerate(follow)]
    batch = collate(prompts, "cpu", context)
    alone = torch.stack([model(input_ids=torch.tensor([p.ids])).logits[0, -1] for p in prompts])
    once = read(model, context, "cpu")
    torch.testing.assert_close(next_word_logits(lm, batch, once), alone, **exact)
    in_two = read(model, context[4:], "cpu", after=read(model, context[:4], "cpu"))
    torch.testing.assert_close(next_word_logits(lm, batch, in_two), alone, **exact)
    torch.testing.assert_close(next_word_logits(lm, collate(prompts, "cpu")), alone, **exact)
    words = next_word_logits(lm, batch, once, label_words_only=True)
    torch.testing.assert_close(words, alone[:, [1, 2]], **exact)


@pytest.mark.parametrize("family", REACHED)
def test_a_pass_may_begin_in_the_middle(family: str) -> None:
    model = make(family, REACHED[family])
    ids = torch.arange(1, 23).reshape(2, 11)
    halfway = Halfway(model)
    with halfway.noting({0, 1}):
        whole = model(input_ids=ids).logits
    ran: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, layer in enumerate(halfway._layers[1].children())
    ]
    for start in (0, 1):
        with halfway.beginning(start):
            torch.testing.assert_close(model(input_ids=ids).logits, whole)
    assert ran, "the last layer must run"
    with halfway.beginning(1):
        torch.testing.assert_close(model(input_ids=ids.flip(0)).logits, whole, msg="the first layer was run again")
    for hook in hooks:
        hook.remove()


def test_keeping_every_position_is_the_untouched_context(lm: LanguageModel, task: Task) -> None:
    prompts = prompts_of(lm, task)
    b = collate(prompts, lm.device, prompts[0].context)
    full = read(lm.model, b.context, lm.device)
    kept = full.select(range(len(full)))
    assert torch.equal(next_word_logits(lm, b, kept), next_word_logits(lm, b, full))


def test_a_context_is_the_same_after_saving_and_loading(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    prompts = prompts_of(lm, task)
    b = collate(prompts, lm.device, prompts[0].context)
    part = read(lm.model, b.context, lm.device).select([0, 2, 5, 9])
    part.save(tmp_path / "part.safetensors")
    again = Context.load(tmp_path / "part.safetensors")
    assert (len(again), again.next_position, again.bytes) == (4, len(b.context), part.bytes)
    assert torch.equal(next_word_logits(lm, b, again), next_word_logits(lm, b, part))
    (tmp_path / "garbage").write_text("no keys")
    with pytest.raises(UserError, match="does not hold a context"):
        Context.load(tmp_path / "garbage")


def test_batches_share_their_demonstrations_and_these_hardly_count(lm: LanguageModel, task: Task) -> None:
    shared, own = prompts_of(lm, task), toy_prompts(lm, task, queries=4)
    batches = plan([*own, *shared], 1000, shared=True)
    assert all(len({p.shared for p in batch}) == 1 for batch in batches)
    assert sorted(len(batch) for batch in batches)[:4] == [1] * 4
    assert max(len(batch) for batch in batches) > max(len(batch) for batch in plan(shared, 1000))
    for batch in batches:
        follow = max(len(p.ids) for p in batch) - len(batch[0].shared)
        assert len(batch) == 1 or len(batch) * (follow + len(batch[0].shared) / 8) <= 1000
    with pytest.raises(ValueError, match="must begin with"):
        collate([own[0], own[1]], "cpu", own[0].context)


def test_contexts_are_made_once_for_batches_that_share_them(lm: LanguageModel, task: Task) -> None:
    made: list[Prompt] = []
    contexts = Contexts(made.append)
    shared, own = prompts_of(lm, task), toy_prompts(lm, task, queries=2)
    for p in (*shared, *own):
        contexts(p)
    assert len(made) == 3


def test_a_part_of_a_context_needs_a_model_that_takes_positions() -> None:
    model = make("bloom", REACHED["bloom"])
    lm = LanguageModel("any", model, None)
    batch = collate([Prompt(0, 0, (1, 2, 3, 4, 5), (), (1, 2), "")], "cpu", (1, 2, 3))
    part = read(model, (1, 2, 3), "cpu").select([0, 2])
    with pytest.raises(UserError, match="'bloom' accepts no position ids"):
        next_word_logits(lm, batch, part)


def test_label_words_do_not_tie_in_bfloat16(task: Task) -> None:
    lm = Tiny().load("cpu", "bfloat16")
    prompts = prompts_of(lm, task, 1)
    batch = collate(prompts, lm.device)
    hidden: list[torch.Tensor] = []
    head = lm.model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    whole, alone = next_word_logits(lm, batch), next_word_logits(lm, batch, label_words_only=True)
    hook.remove()
    expected = hidden[0][range(len(prompts)), batch.targets].float() @ head.weight[batch.label_tokens].float().T
    assert whole.dtype == alone.dtype == torch.float32
    torch.testing.assert_close(whole[:, batch.label_tokens], expected)
    torch.testing.assert_close(alone, expected)
    assert not torch.equal(expected, expected.bfloat16().float())
