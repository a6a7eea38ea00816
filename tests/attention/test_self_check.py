"""A model is tried before it is measured: what it lacks is found, and decides what it can be asked."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from anchorflow.attention import checked, self_check
from anchorflow.attention.self_check import check
from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Classification, Compression, LabelRelationships, Reweighting, Saliency
from anchorflow.models import PROPERTIES, Abilities, LanguageModel, Tiny, prepare, toys
from anchorflow.runs.compute import Memory, compute
from tests.attention.test_backend import GROUPED, REACHED, make

WORDS = {"vocab_size": len(toys.tokenizer())}
WITHOUT_GAPS = {"bloom", "mpt", "falcon/alibi", "gemma2", "gemma3_text", "gpt_neo", "gpt_oss", "mistral"}
"""Their scores count the positions that are there, or their windows are shorter than the text."""

QWEN3_NEXT = {
    **GROUPED,
    **WORDS,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


def toy(family: str, more: dict[str, Any]) -> LanguageModel:
    return prepare(family, make(family, more), toys.tokenizer())


@pytest.mark.parametrize("family", REACHED)
def test_a_family_that_works_has_every_property(family: str) -> None:
    found = check(prepare(family, make(family, REACHED[family]), None))
    assert set(found) == ({"gaps"} if family in WITHOUT_GAPS else set()), found


def test_what_a_hybrid_model_lacks_is_found_and_its_curves_have_its_own_layer_numbers(
    task: Task, tmp_path: Path
) -> None:
    lm = checked(toy("qwen3_next", QWEN3_NEXT))
    assert {"context", "last token", "gaps"} <= set(lm.can.lacking)
    assert {"causal", "taps", "prefix"} <= PROPERTIES.keys() - set(lm.can.lacking)
    assert lm.shape.attending == (1,)
    experiment = Saliency(n_queries=4)
    found = compute(experiment, lm, task, Memory(tmp_path), seed=1, batch_tokens=300)
    result = experiment.reduce(found.records, task.labels)
    assert list(result.curves["S_wp"].at) == [2]
    assert any("1 attention layer" in note for note in result.notes)


@pytest.mark.parametrize("experiment", [Compression(n_queries=4), Reweighting(n_queries=4)])
def test_an_experiment_that_needs_what_is_lacking_is_refused(experiment: Any, task: Task, tmp_path: Path) -> None:
    lm = checked(toy("qwen3_next", QWEN3_NEXT))
    with pytest.raises(UserError, match=r"fails the check that a text can continue from its KV cache.*classification"):
        compute(experiment, lm, task, Memory(tmp_path), seed=1, batch_tokens=300)


@pytest.mark.parametrize("lacking", ["context", "padding", "cut", "context padding"])
def test_numbers_do_not_depend_on_how_a_model_has_to_be_read(lacking: str, task: Task, tmp_path: Path) -> None:
    """Whole prompts, prompts of equal length: slower, and the same to rounding."""
    whole = Tiny().load("cpu", "float64")
    lm = LanguageModel(whole.name, whole.model, whole.tokenizer, can=Abilities(dict.fromkeys(lacking.split(), "")))
    for experiment in (Classification(n_queries=12), Saliency(n_queries=6)):
        pair = [
            compute(experiment, each, task, Memory(tmp_path), seed=1, batch_tokens=400).records for each in (whole, lm)
        ]
        for one, other in zip(*pair, strict=True):
            assert one["query"] == other["query"]
            assert other["variants"]["full"]["probs"] == pytest.approx(one["variants"]["full"]["probs"], abs=1e-9)


def test_a_family_whose_module_ignores_an_argument_is_caught() -> None:
    """Demonstrations that vanish in **kwargs would be a wrong number with exit code 0."""
    model = make("llama", GROUPED)
    whole = model.model.forward

    def forgetful(past_key_values: object = None, cache: object = None, **given: Any) -> Any:
        return whole(**given)

    with mock.patch.object(model.model, "forward", forgetful):
        found = check(prepare("forgetful", model, None))
    assert "context" in found
    assert "causal" not in found


def test_an_encoder_is_found_out_and_takes_no_experiment(task: Task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = CONFIG_MAPPING["bert"](**WORDS, **sizes, is_decoder=False, initializer_range=0.3)
    lm = checked(prepare("encoder", AutoModelForCausalLM.from_config(config).eval(), toys.tokenizer()))
    assert "off by" in lm.can.lacking["causal"]
    for experiment in (Classification(n_queries=4), LabelRelationships(n_demonstrations=4, repetitions=2)):
        with pytest.raises(UserError, match=r"model type 'bert'.*a token changes nothing before it.*no experiment"):
            compute(experiment, lm, task, Memory(tmp_path), seed=1, batch_tokens=300)


def test_what_was_found_is_kept_for_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANCHORFLOW_CACHE", str(tmp_path))
    first = checked(Tiny(seed=5).load("cpu", "float32"))
    (kept,) = (tmp_path / "self-check").iterdir()
    kept.write_text(json.dumps({"gaps": "for this test"}), encoding="utf-8")
    with mock.patch.object(self_check, "check", side_effect=AssertionError("it is known")):
        again = checked(Tiny(seed=5).load("cpu", "float32"))
    assert (first.can.lacking, again.can.lacking) == ({}, {"gaps": "for this test"})
    assert checked(Tiny(seed=6).load("cpu", "float32")).can.lacking == {}
    for damaged in ("", "{", "[]", '{"no property": ""}'):
        kept.write_text(damaged, encoding="utf-8")
        assert checked(Tiny(seed=5).load("cpu", "float32")).can.lacking == {}
        assert kept.read_text(encoding="utf-8") == "{}"
