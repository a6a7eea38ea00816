"""An adapter, in a directory or on the hub, is the model of base and adapter together, and what it needs is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anchorflow.errors import UserError
from anchorflow.models import Pretrained, Tiny, adapter
from anchorflow.settings import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft asks transformers so
IDS = torch.tensor([[3, 4, 5]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    lm = Tiny(family="llama").load("cpu", "float32")
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def tuned(base: Path, tmp_path: Path) -> Path:
    """An adapter of rank 2, whose B is not zero as it is at the start of training."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    wanted = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, wanted).save_pretrained(tmp_path / "tuned")
    return tmp_path / "tuned"


def logits(path: Path, name: str = "mine") -> torch.Tensor:
    found: torch.Tensor = Pretrained(name=name, path=str(path)).load("cpu", "float32").model(input_ids=IDS).logits
    return found


def changed(folder: Path, **changes: Any) -> None:
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as found:
        Pretrained(name="mine", path=str(folder)).load("cpu", "float32")
    return str(found.value)


def test_the_weights_are_base_plus_scaled_product_of_the_adapters(base: Path, tuned: Path) -> None:
    from safetensors.torch import load_file

    plain, merged = (Pretrained(path=str(path)).load("cpu", "float32") for path in (base, tuned))
    assert merged.name == "tuned"
    assert type(merged.model) is type(plain.model), "no layers of peft are left"
    learned = load_file(tuned / "adapter_model.safetensors")
    of_layer = "model.layers.0.self_attn.q_proj"
    a, b = (learned[f"base_model.model.{of_layer}.lora_{which}.weight"] for which in "AB")
    before, after = (lm.model.get_submodule(of_layer).weight for lm in (plain, merged))
    torch.testing.assert_close(after, before + 4 / 2 * b @ a)
    assert not torch.allclose(logits(base), logits(tuned))
    assert replace(merged.shape, name="base") == plain.shape
    assert Pretrained(path=str(tuned)).shape() == merged.shape


def test_its_content_is_that_of_both(base: Path, tuned: Path) -> None:
    prints = [fingerprint(Pretrained(name="mine", path=str(path))) for path in (base, tuned)]
    (tuned / "README.md").write_text("a card")
    assert fingerprint(Pretrained(name="mine", path=str(tuned))) == prints[1] != prints[0]
    changed(tuned, lora_alpha=8)
    prints.append(fingerprint(Pretrained(name="mine", path=str(tuned))))
    assert prints[2] not in prints[:2]
    weights = base / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert fingerprint(Pretrained(name="mine", path=str(tuned))) not in prints


def test_a_tokenizer_beside_the_adapter_is_the_models(base: Path, tuned: Path) -> None:
    for file in base.glob("*token*"):
        shutil.copy(file, tuned)
    config = json.loads((tuned / "tokenizer_config.json").read_text())
    (tuned / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 77}))
    assert Pretrained(path=str(tuned)).load("cpu", "float32").tokenizer.model_max_length == 77


def test_what_does_not_fit_is_refused_by_name(base: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    wrong = Pretrained(path=str(tuned), quantization="4bit")
    with pytest.raises(UserError, match=r"model.quantization is '4bit', but an adapter is merged"):
        wrong.load("cuda", "float16")
    learned = load_file(tuned / "adapter_model.safetensors")
    save_file(dict(list(learned.items())[1:]), tuned / "adapter_model.safetensors")
    assert f"the adapter in {tuned} cannot be merged into {base} (Found missing adapter keys" in refused(tuned)
    save_file({**learned, "base_model.model.model.layers.9.x": torch.ones(1)}, tuned / "adapter_model.safetensors")
    assert "1 of its weights fit no part of this model: base_model.model.model.layers.9.x" in refused(tuned)
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: None)
    assert "which needs peft; run: pip install 'anchorflow[peft]'" in refused(tuned)
    (tuned / "adapter_model.safetensors").unlink()
    assert "no adapter_model.safetensors; copy" in refused(tuned)
    changed(tuned, base_model_name_or_path=None)
    assert "names no base model" in refused(tuned)
    (tuned / "adapter_config.json").write_text("{")
    assert "adapter_config.json is damaged (JSONDecodeError" in refused(tuned)


def test_an_adapter_of_the_hub_is_that_of_its_directory(
    base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the hub's cache, as a machine without network has it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    adapter.on_hub.cache_clear()
    repository = tmp_path / "hub" / "models--me--tuned"
    shutil.copytree(tuned, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert torch.equal(logits(Path("me/tuned")), logits(tuned))
    of_hub, of_directory = (fingerprint(Pretrained(name="mine", path=path)) for path in ("me/tuned", str(tuned)))
    assert of_hub == of_directory
    shutil.copytree(base, repository / "snapshots" / ("a" * 40), dirs_exist_ok=True)  # a whole model with an adapter
    assert "has an adapter (adapter_config.json), which is not applied" in refused(Path("me/tuned"))
    assert "me/other is not in the hub's cache" in refused(Path("me/other"))
