"""Model directories whose files disagree are refused by name; positions of no rope type depend on the batch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from anchorflow.errors import UserError
from anchorflow.models import Pretrained, Tiny, prepare, toys


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    lm = Tiny(family="llama", layers=3).load("cpu", "float32")
    lm.model.save_pretrained(tmp_path / "model", max_shard_size="50KB")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    assert len(list((tmp_path / "model").glob("model-*.safetensors"))) > 1
    return tmp_path / "model"


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as found:
        Pretrained(name="mine", path=str(folder)).load("cpu", "float32")
    assert str(found.value).startswith("model mine: ")
    return str(found.value)


def test_an_adapter_that_would_be_ignored_is_refused(saved: Path) -> None:
    (saved / "adapter_config.json").write_text("{}")
    assert "has an adapter (adapter_config.json), which is not applied. Merge it" in refused(saved)


def test_shards_that_are_half_copied_or_of_two_generations_are_refused(saved: Path) -> None:
    first = min(saved.glob("model-*.safetensors"))
    content = first.read_bytes()
    first.unlink()
    assert f"lacks {first.name}, which its model.safetensors.index.json lists; copy" in refused(saved)
    first.write_bytes(content)
    for number in range(1, 6):
        (saved / f"model-0000{number}-of-00099.safetensors").write_bytes(content)
    assert "has model-00001-of-00099.safetensors, model-00002-of-00099.safetensors, " in refused(saved)
    assert "and 2 more, which its model.safetensors.index.json does not list" in refused(saved)
    index = saved / "model.safetensors.index.json"
    index.write_text("{}")
    assert "model.safetensors.index.json is damaged (KeyError)" in refused(saved)
    index.unlink()
    assert "but no model.safetensors.index.json; copy it, too" in refused(saved)


def test_weights_with_more_layers_than_the_configuration_are_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["num_hidden_layers"] = 2
    (saved / "config.json").write_text(json.dumps(config))
    assert "its weights have a layer 3 (model.layers.2." in refused(saved)
    assert "its config.json 2 layers" in refused(saved)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(saved: Path) -> None:
    tokenizer = toys.tokenizer()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(saved)
    assert Pretrained(path=str(saved)).load("cpu", "float32").tokenizer.pad_token == "<pad>"
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(saved)
    assert f"has 1 tokens beyond the {rows} of its embedding ('unheard' is {rows + 1})" in refused(saved)


ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": 16},
    "longrope": {
        "factor": 2.0,
        "original_max_position_embeddings": 16,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
    },
    "llama3": {
        "factor": 2.0,
        "original_max_position_embeddings": 16,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "proportional": {},
}


def test_all_rope_types_of_transformers_are_known_here() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    assert set(ROPE_INIT_FUNCTIONS) | {"default"} == set(ROPES)


@pytest.mark.parametrize("rope", ROPES)
def test_no_prompt_that_fits_has_other_numbers_in_a_batch_with_a_longer_one(rope: str) -> None:
    """Frequencies that follow the longest text of a pass would make batch_tokens change a number."""
    from transformers import AutoModelForCausalLM

    config = toys.config("llama", 100, 2, 4, 32, positions=32)
    config.rope_parameters = {"rope_type": rope, "rope_theta": 10000.0, **ROPES[rope]}
    torch.manual_seed(0)
    lm = prepare("rope", AutoModelForCausalLM.from_config(config).double(), None)
    longest = lm.max_length
    assert longest == (16 if rope == "longrope" else 32)
    short, long = torch.randint(0, 100, (1, 7)), torch.randint(0, 100, (1, longest))
    with torch.no_grad():
        alone = lm.model(input_ids=short).logits
        padded = torch.cat([short, torch.zeros(1, longest - 7, dtype=torch.long)], dim=1)
        mask = torch.ones(2, longest, dtype=torch.long)
        mask[0, 7:] = 0
        batch = lm.model(input_ids=torch.cat([padded, long]), attention_mask=mask).logits
        again = lm.model(input_ids=short).logits
    torch.testing.assert_close(batch[:1, :7], alone)
    torch.testing.assert_close(again, alone, msg="nor has a prompt behind a longer one")
