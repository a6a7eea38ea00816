"""Compression against full prompts whose query rows cannot see what is dropped."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anchorflow.attention import Context, read
from anchorflow.attention.kv_cache import positions_after, shortest_window
from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Compression
from anchorflow.experiments.compression import _short_and_long
from anchorflow.models import LanguageModel
from anchorflow.prompts import Prompt
from anchorflow.results import Record
from anchorflow.scoring import collate, next_word_logits
from tests import oracle
from tests.attention.test_backend import REACHED, make
from tests.conftest import mapped, toy_work
from tests.prompts.test_separators import joining


def kept_alone(lm: LanguageModel, prompt: Prompt, kept: list[int], restart: bool) -> list[float]:
    n, length = len(prompt.context), len(prompt.ids)
    dropped = [p for p in range(n) if p not in kept]

    def mask(layer: int, scores: Tensor) -> Tensor:
        scores = scores.clone()
        scores[:, n:, dropped] = -torch.inf
        return scores

    positions = [*range(n), *(range(length - n) if restart else range(n, length))]
    logits = oracle.run(lm, prompt.ids, of_scores=mask, positions=positions).logits[-1]
    return torch.softmax(logits[list(prompt.label_tokens)], dim=0).tolist()


@pytest.mark.parametrize("positions", ["original", "restart"])
@pytest.mark.parametrize("shots", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch_tokens", [1, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_variant_equals_its_oracle(
    lm: LanguageModel, task: Task, positions: str, shots: int, batch_tokens: int
) -> None:
    experiment = Compression(n_queries=4, shots_per_class=shots, positions=positions, random_sets=3)  # type: ignore[arg-type]
    work = toy_work(experiment, lm, task)
    sets = experiment.positions_kept(work.prompts[0], work.seed)
    assert list(sets) == ["hidden_anchor", "hidden_random", "hidden_random_2", "hidden_random_3"]
    for record, prompt in zip(mapped(experiment, lm, work, batch_tokens), work.prompts, strict=True):
        found = {name: variant["probs"] for name, variant in record["variants"].items()}
        label_tokens = list(prompt.label_tokens)
        full = oracle.run(lm, prompt.ids).logits[-1][label_tokens].softmax(dim=0)
        assert found["full"] == pytest.approx(full.tolist(), rel=1e-4)
        bare = work.text_anchors[prompt.query]
        text = oracle.run(lm, bare.ids).logits[-1][label_tokens].softmax(dim=0)
        assert found["text_anchor"] == pytest.approx(text.tolist(), rel=1e-4)
        for name, kept in sets.items():
            expected = kept_alone(lm, prompt, kept, positions == "restart")
            assert found[name] == pytest.approx(expected, rel=1e-4), name


def test_what_is_kept(lm: LanguageModel, task: Task) -> None:
    experiment = Compression(n_queries=1, random_sets=5)
    work = toy_work(experiment, lm, task)
    (prompt,) = work.prompts
    sets = experiment.positions_kept(prompt, 42)
    shown = lm.tokenizer.decode([prompt.ids[p] for p in sets["hidden_anchor"]])
    expected = "".join(f"Question:\nAnswer Type:{task.label_words[d.label]}\n" for d in prompt.demonstrations)
    assert shown == expected
    bare = work.text_anchors[prompt.query]
    assert lm.tokenizer.decode(bare.context) == expected
    assert bare.text.endswith(prompt.text[prompt.text.rindex("Question") :])
    words = {p for d in prompt.demonstrations for p in d.label_word}
    for draw in range(2, 6):
        kept = sets[f"hidden_random_{draw}"]
        assert not set(kept) & words
        assert len(kept) == len(sets["hidden_anchor"])
        for d in prompt.demonstrations:
            swapped = [p for p in kept if d.start <= p < d.stop and p not in d.formatting]
            assert len(swapped) == len(d.label_word)
            assert max(swapped) < d.anchor


def test_a_pair_of_texts_is_left_out_with_its_blanks(lm: LanguageModel, task: Task) -> None:
    from anchorflow.data import Template

    pairs = dataclasses.replace(
        task,
        template=Template("One: {text}\nTwo: {text_pair}\nSame:{label}"),
        train=tuple(dataclasses.replace(row, text_pair="the other") for row in task.train),
        test=tuple(dataclasses.replace(row, text_pair="the other") for row in task.test),
    )
    work = toy_work(Compression(n_queries=1), lm, pairs)
    (bare,) = work.text_anchors.values()
    assert lm.tokenizer.decode(bare.context).startswith("One:\nTwo:\nSame: ")


def test_the_saved_cache_is_a_drop_in_context(lm: LanguageModel, task: Task, tmp_path: Path) -> None:
    experiment = Compression(n_queries=4, random_sets=1)
    work = toy_work(experiment, lm, task)
    records = mapped(experiment, lm, work, folder=tmp_path)
    context = Context.load(tmp_path / "hidden_anchor.safetensors")
    assert context.bytes == records[0]["context"]["hidden_anchor"]["bytes"]
    batch = collate(work.prompts, lm.device, work.prompts[0].context)
    probs = next_word_logits(lm, batch, context, label_words_only=True).softmax(dim=-1)
    for row, record in zip(probs.tolist(), records, strict=True):
        assert record["variants"]["hidden_anchor"]["probs"] == pytest.approx(row, rel=1e-9)


def test_speed_is_taken_from_short_and_long_queries(lm: LanguageModel, task: Task) -> None:
    prompts = toy_work(Compression(n_queries=12), lm, task).prompts
    shared = prompts[0].shared
    in_order = sorted((p.length, p.query) for p in prompts)
    sample = [(p.length, p.query) for p in _short_and_long(prompts, shared, None)]
    assert sample == [in_order[i] for i in (1, 3, 6, 8, 10)]
    longest = in_order[-1][0]
    assert all(p.length < longest for p in _short_and_long(prompts, shared, longest - 1))
    assert _short_and_long(prompts[:1], shared, None) == [prompts[0]]
    assert _short_and_long(prompts, (1, 2), None) == []


def test_positions_left_out_and_a_window_shorter_than_the_prompt_are_refused(task: Task) -> None:
    for family in ("mistral", "gpt_neo", "gemma2"):
        model = make(family, REACHED[family])
        window = shortest_window(model)
        assert window is not None
        context = read(model, list(range(1, window)), "cpu").select([0, 2])
        assert positions_after(model, context, (1, 1), "cpu")
        with pytest.raises(UserError, match=f"layers that see {window} tokens.* prompt of {window + 1}"):
            positions_after(model, context, (1, 2), "cpu")
    assert shortest_window(make("llama", REACHED["llama"])) is None


def test_the_best_random_set_is_chosen_when_all_records_are_there() -> None:
    def variant(best: int, *top: int) -> dict[str, list[float]]:
        return {"probs": [float(best == 0), float(best == 1)], "top5": list(top or range(5))}

    context = {name: {"tokens": 4, "bytes": 8} for name in ("text_anchor", "hidden_anchor", "hidden_random")}
    shared = {"label": 1, "context": {"full": {"tokens": 16, "bytes": 32}, **context}}
    alike = {"full": variant(1), "text_anchor": variant(0), "hidden_anchor": variant(1)}
    other = variant(1, 5, 6, 7, 8, 9)
    records: list[Record] = [
        {"query": 0, **shared, "variants": {**alike, "hidden_random": variant(0), "hidden_random_2": variant(1)}},
        {
            "query": 1,
            **shared,
            "variants": {**alike, "hidden_random": variant(1), "hidden_random_2": other},
        },
    ]
    seconds = {"full_uncached": 8.0, "full": 2.0, "text_anchor": 1.0, "hidden_anchor": 1.0, "hidden_random": 1.0}
    records[1]["seconds"] = seconds
    experiment = Compression(random_sets=2)
    finished = list(experiment.finish(records))
    assert finished == list(experiment.finish(finished))
    assert [r["variants"]["hidden_random_top"] for r in finished] == [r["variants"]["hidden_random_2"] for r in records]
    metrics = experiment.reduce(finished, ["a", "b"]).metrics
    assert metrics["hidden_random_top/label_loyalty"] == 1.0
    assert metrics["hidden_random_top/word_loyalty"] == 0.5
    assert metrics["hidden_random/label_loyalty"] == 0.75  # over both sets
    assert (metrics["text_anchor/accuracy"], metrics["full/accuracy"]) == (0.0, 1.0)
    assert (metrics["hidden_anchor/kept_tokens"], metrics["hidden_anchor/kept_share"]) == (4, 0.25)
    assert (metrics["hidden_anchor/speedup"], metrics["hidden_anchor/speedup_over_cache"]) == (8.0, 2.0)
    assert metrics["full/speedup"] == 4.0
    assert metrics["full/text_tokens"] == 12  # table 6: neither words of the template nor label words


def test_a_random_set_that_keeps_less_is_told() -> None:
    probs = {"probs": [1.0, 0.0], "top5": [0, 1, 2, 3, 4]}
    names = ("full", "text_anchor", "hidden_anchor", "hidden_random")
    context = {name: {"tokens": 4 - (name == "hidden_random"), "bytes": 8} for name in names}
    record: Record = {"query": 0, "label": 1, "context": context, "variants": dict.fromkeys(names, probs)}
    experiment = Compression(random_sets=1)
    (note,) = experiment.reduce(experiment.finish([record]), ["a", "b"]).notes
    assert "hidden_random keeps fewer positions" in note


def test_signs_of_the_template_that_a_tokenizer_joins_with_a_text_are_counted_in_a_note(
    lm: LanguageModel, task: Task
) -> None:
    joined = dataclasses.replace(lm, tokenizer=joining())
    rows = tuple(dataclasses.replace(row, text="It is." if row.label else "no stop") for row in task.train)
    written = dataclasses.replace(task, train=rows, label_words=(" Negative", " Positive", " Zebra"))
    experiment = Compression(n_queries=2, random_sets=1)
    work = toy_work(experiment, joined, written)
    assert work.instead
    records = mapped(experiment, joined, work)
    note, *_ = experiment.reduce(records, written.labels).notes
    assert note.startswith("in 2 of 3 demonstrations the tokenizer merges a character of the template with the text")
    assert r"a token such as '.\n'" in note
    assert r'dataset.template="Question: {text} \nAnswer Type:{label}"' in note
    records[0]["merged"]["demonstrations"] = 1  # where queries have demonstrations of their own
    assert experiment.reduce(records, written.labels).notes[0].startswith("in 3 of 6 demonstrations")
