"""Taps are in force for a block, for every family that can be reached, and gone after it."""

from unittest import mock

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama import modeling_llama

from anchorflow.attention import Attend, Attention, Seen, read, tapped
from anchorflow.attention.kv_cache import cache_given, positions_given
from anchorflow.errors import UserError

COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,
}
GROUPED = {"num_key_value_heads": 2}
REACHED: dict[str, dict[str, object]] = {
    "gpt2": {},
    "gptj": {"rotary_dim": 4},
    "llama": GROUPED,
    "bloom": {},
    "codegen": {"rotary_dim": 4},
    "cohere": GROUPED,
    "falcon": {},
    "falcon/alibi": {"alibi": True},
    "falcon/new": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gemma": {**GROUPED, "head_dim": 8},
    "gemma2": {**GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 4},
    "gpt_neox": {},
    "gpt_oss": {**GROUPED, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4},
    "mistral": {**GROUPED, "sliding_window": 4},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "olmo2": GROUPED,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi": {},
    "phi3": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "stablelm": GROUPED,
    "starcoder2": GROUPED,
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
}


def make(family: str, more: dict[str, object]) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family.split("/")[0]](**{**COMMON, **more})
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def untouched(attention: Attention, attend: Attend) -> torch.Tensor:
    return attend(attention)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, 64, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", REACHED)
def test_a_tap_that_does_nothing_changes_nothing_and_sees_every_layer_with_its_causal_mask(
    family: str, ids: torch.Tensor
) -> None:
    model = make(family, REACHED[family])
    seen: list[int] = []

    def look(attention: Attention, attend: Attend) -> torch.Tensor:
        seen.append(attention.layer)
        assert (attention.mask[0, 0].triu(1)[torch.ones(11, 11).triu(1) > 0] < -1e8).all(), "the future is visible"
        return attend(attention)

    vanilla = model(input_ids=ids).logits
    with tapped(model, look):
        logits = model(input_ids=ids).logits
    assert seen == [0, 1]
    torch.testing.assert_close(logits, vanilla, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", REACHED)
def test_what_a_tap_returns_is_what_the_model_goes_on_with(family: str, ids: torch.Tensor) -> None:
    model = make(family, REACHED[family])

    def silence(attention: Attention, attend: Attend) -> torch.Tensor:
        output = attend(attention)
        return torch.zeros_like(output) if attention.layer == 1 else output

    with tapped(model, silence):
        changed = model(input_ids=ids).logits
    assert not torch.allclose(changed, model(input_ids=ids).logits)


@pytest.mark.parametrize("family", REACHED)
def test_a_position_of_each_prompt_is_right_when_it_alone_is_computed(family: str, ids: torch.Tensor) -> None:
    model = make(family, REACHED[family])
    vanilla = model(input_ids=ids).logits
    rows, only = torch.arange(2), torch.tensor([10, 7])
    with tapped(model, untouched, only=only):
        alone = model(input_ids=ids).logits
    torch.testing.assert_close(alone[rows, only], vanilla[rows, only], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(input_ids=ids).logits, vanilla)


@pytest.mark.parametrize("shared", [0, 4])
@pytest.mark.parametrize("family", REACHED)
def test_a_target_goes_through_the_model_again_alone(family: str, shared: int, ids: torch.Tensor) -> None:
    model = make(family, REACHED[family])
    ids = torch.cat([ids[:1, :shared].expand(2, -1), ids[:, shared:]], dim=1)
    rows, last = torch.arange(2), torch.tensor([10, 7])
    vanilla = model(input_ids=ids).logits[rows, last]
    seen = Seen(last - shared, shared)
    context = read(model, ids[0, :shared].tolist(), "cpu")
    with tapped(model, seen):
        model(input_ids=ids[:, shared:], **{**cache_given(model, context.cache()), "use_cache": shared > 0})
    for row in (slice(0, 2), slice(0, 1), slice(1, 2)):
        some = seen if row == slice(0, 2) else seen.of([row.start])
        with tapped(model, some.alone()):
            alone = model(
                input_ids=ids[rows, last][row, None], use_cache=False, **positions_given(model, last[row, None])
            )
        torch.testing.assert_close(alone.logits[:, 0], vanilla[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "falcon"])
def test_after_the_block_the_model_is_as_before_also_after_an_exception(family: str, ids: torch.Tensor) -> None:
    model = make(family, REACHED[family])
    before, implementation = model(input_ids=ids).logits, model.config._attn_implementation
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}

    def fail(attention: Attention, attend: Attend) -> torch.Tensor:
        raise RuntimeError("in the tap")

    with pytest.raises(RuntimeError, match="in the tap"), tapped(model, fail, only=torch.tensor([10, 10])):
        model(input_ids=ids)
    assert model.config._attn_implementation == implementation
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(input_ids=ids).logits, before)


def test_blocks_nest_the_inner_taps_come_after_the_outer_ones(ids: torch.Tensor) -> None:
    model = make("llama", GROUPED)
    order: list[str] = []

    def named(name: str):  # type: ignore[no-untyped-def]
        def tap(attention: Attention, attend: Attend) -> torch.Tensor:
            order.append(name)
            return attend(attention)

        return tap

    with tapped(model, named("a"), named("b")):
        with tapped(model, named("c")):
            model(input_ids=ids)
        assert order == ["a", "b", "c"] * 2
        order.clear()
        model(input_ids=ids)
    assert order == ["a", "b"] * 2


def test_a_layer_whose_attention_cannot_be_reached_is_found_out(ids: torch.Tensor) -> None:
    model = make("llama", GROUPED)

    def own(hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor, None]:
        return hidden_states, None

    model.model.layers[1].self_attn.forward = own
    with pytest.raises(UserError, match="1 of the 2 attention layers of model type 'llama'"), tapped(model, untouched):
        model(input_ids=ids)


def test_an_argument_of_the_attention_that_taps_do_not_know_is_refused_by_name(ids: torch.Tensor) -> None:
    model = make("llama", GROUPED)

    def eager_attention_forward(*_: object, temperature: float | None = None, **__: object) -> None: ...

    with (
        mock.patch.object(modeling_llama, "eager_attention_forward", eager_attention_forward),
        tapped(model, untouched),
    ):
        model(input_ids=ids)
        with pytest.raises(UserError, match="LlamaAttention passes temperature to its attention"):
            model(input_ids=ids, temperature=0.5)


def test_a_model_without_attention_is_refused(ids: torch.Tensor) -> None:
    config = CONFIG_MAPPING["mamba"](vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match="model type 'mamba' has no attention layers"), tapped(model, untouched):
        raise AssertionError
