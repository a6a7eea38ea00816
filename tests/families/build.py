"""A tiny model with random weights for any family of transformers: the default configuration, shrunk by one rule."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from anchorflow.attention import checked
from anchorflow.models import LanguageModel, prepare, toys
from tests.families.exceptions import CASES, ENCODERS, EXCEPTIONS

WIDTH, HEADS, KEY_HEADS, HEAD, INNER, RANK, EXPERTS, LAYERS, WINDOW, POSITIONS = 64, 4, 2, 16, 96, 16, 4, 4, 16, 1024
SPECIAL = 8
"""Tokens that no text has; those of the configuration (bos, eos, pad, ...) are among them."""
GAIN = 1.6
"""Standard deviation of what a linear map makes of inputs of unit variance: attention is far from uniform."""

LARGEST = 20_000_000
"""Parameters; more, and the rule has missed a size."""

SIZES: dict[str, int] = {
    r"hidden_size|d_model|n_embd|emb_dim|embedding_dim|word_embed_proj_dim|(input_|output_)?embedding_size": WIDTH,
    r"lru_width|attention_hidden_size|hidden_size_per_layer_input|ple_embed_dim|router_hidden_size": WIDTH,
    r"(swa_)?head_dim|attention_head_size|attention_head_dim|kv_channels|dim_head|d_head|global_head_dim": HEAD,
    r"v_head_dim|(mamba|linear|linear_key|linear_value)_(head_?dim|d_head)|query_pre_attn_scalar": HEAD,
    r"qk_nope_head_dim|qk_rope_head_dim|rotary_dim": HEAD // 2,
    r"(q|kv|o)_lora_rank|laurel_rank|gated_norm_rank|adapter_rank|hc_lowrank|d_rel|(mamba_dt|time_step)_rank": RANK,
    r"(shape|pronunciation)_embed_dim": RANK,
    r"(\w+_)?intermediate_size(_mlp)?|(\w+_)?ffn_dim|n_inner|dff|dim_ff|d_inner|feed_forward_size": INNER,
    r"(expert_)?ffn_hidden_size": INNER,
    r"(moe_num|num|num_local|n_routed)_experts|zero_expert_num": EXPERTS,
    r"n_group|num_expert_group|topk_group|mamba_n_?groups|n_groups|o_groups": 1,
    r"(mamba_)?d_state|mamba_d_state|ssm_state_size|state_size": 8,
    r"mamba_n_heads|mamba_num_heads|n_mamba_heads": 8,
    r"linear_num_(key_)?heads": 2,
    r"linear_num_value_heads": 4,
    r"(num_)?encoder_attention_heads": HEADS // 2,  # which is not the decoder's
    r"(\w+_)?(attention_heads|n_heads?|num_heads)": HEADS,
    r"mamba_d_ssm": 2 * WIDTH,
    r"index_n_heads": 2,
    r"index_head_dim": HEAD,
    r"index_topk": 12,
    r"index_topk_blocks": 2,
    r"index_block_size": 8,
    r"sliding_window(_size)?|attention_chunk_size|window_size|attention_window_size|local_attention|keep_window_size": WINDOW,
    r"(mamba_)?chunk_size": WINDOW,
    r"(max|original_max)_(position_embeddings|target_positions|seq_len)|n_positions|n_ctx|context_length": POSITIONS,
    r"\w+_(period|interval|every_n_layers|pattern)|layer_group_size|decoder_sparse_step": 2,
    r"\w+_offset|first_k_dense_replace|num_dense_layers": 1,
    r"num_nextn_predict_layers": 0,
    r"num_layers_per_stack": 2,
    r"hidden_size_global": WIDTH,
    r"encoder_hash_byte_group_vocab": 500,
}
"""What a size is shrunk to, by its name; the whole name must match."""
UNSET = {"head_dim": HEAD, "num_key_value_heads": HEADS, "num_experts_per_tok": 2, "n_routed_experts": EXPERTS}
"""What takes the place of None: some families compute with it."""
LAYER_COUNTS = (
    "num_hidden_layers",
    "n_layers",
    "n_layer",
    "num_layers",
    "num_blocks",
    "decoder_layers",
    "num_decoder_layers",
)
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
"""How many experts a token takes: two at most."""


def names() -> list[str]:
    """All families, and further cases of some."""
    return sorted(
        [
            *(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in CASES),
            *(case for cases in CASES.values() for case in cases),
        ]
    )


def pair(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[LanguageModel, PreTrainedModel]:
    """A model as a user has it, and the same weights in another, whose attention is the family's eager code."""
    made = config(name)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(copy.deepcopy(made)).parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters: a size is not shrunk")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(made), dtype=dtype)
    _draw(model, seed)
    eager = AutoModelForCausalLM.from_config(made, dtype=dtype, attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    for key, buffer in model.named_buffers():  # those that no checkpoint holds, and that may be random
        owner, _, own = key.rpartition(".")
        setattr(eager.get_submodule(owner), own, buffer.clone())
    return checked(prepare(name, model, toys.tokenizer())), eager.eval().requires_grad_(False)


def config(name: str) -> Any:
    """The family's default configuration, shrunk."""
    family = name.split("/")[0]
    decoder = {"is_decoder": name != family} if family in ENCODERS else {}
    return _shrunk(CONFIG_MAPPING[family], EXCEPTIONS.get(family, {}) | decoder)


def _shrunk(kind: Any, exceptions: dict[str, Any]) -> Any:
    own = {key: value for key, value in exceptions.items() if not isinstance(value, dict)}
    default = kind()
    given: dict[str, Any] = {}
    for key in kind.sub_configs:
        if isinstance(inner := getattr(default, key, None), PreTrainedConfig):
            given[key] = _shrunk(type(inner), exceptions.get(key, {}))
    known = default.to_dict()
    for key, value in known.items():
        if key not in given and (small := _size(key, value, known)) is not None:
            given[key] = small
    given |= _layers(known)
    given |= _tokens(known)
    given |= {key: 0.3 for key in ("initializer_range", "init_std") if key in known}
    return kind(**{**given, **own, **exceptions.get("dicts", {})})


def _size(key: str, value: Any, known: dict[str, Any]) -> Any:
    if value is None:
        return UNSET.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    if key == "vocab_size" or key == "vocab_size_per_layer_input":
        return len(toys.tokenizer()) + SPECIAL
    if key == "qk_head_dim":
        return HEAD
    if key == "head_dim" and known.get("qk_rope_head_dim") == value:
        return HEAD // 2
    if key in CHOSEN:
        return min(value, 2)
    if re.fullmatch(r"(\w+_)?num_(global_)?(key_value|kv)_heads|num_query_groups", key):
        heads = known.get("num_attention_heads", known.get("n_head"))
        return HEADS if value == heads else min(value, KEY_HEADS)
    return next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, key)), None)


def _layers(known: dict[str, Any]) -> dict[str, Any]:
    """Few layers, of every kind that the lists of the configuration know."""
    found: dict[str, Any] = {}
    count = next((known[key] for key in LAYER_COUNTS if known.get(key)), None)
    if count is None:
        return found
    lists = {k: v for k, v in known.items() if isinstance(v, (list, tuple)) and len(v) == count and count > 3}
    chosen = representatives(list(zip(*lists.values(), strict=True)) or [()] * max(count, LAYERS))
    found |= {key: [value[i] for i in chosen] for key, value in lists.items()}
    if own := known.get("per_layer_config"):
        sizes = {
            int(i): {k: _size(k, v, {**known, **of_layer}) or v for k, v in of_layer.items()}
            for i, of_layer in own.items()
        }
        found["per_layer_config"] = {place: sizes[i] for place, i in enumerate(chosen) if i in sizes}
    found |= {key: len(chosen) - 1 for key in ("encoder_layers", "num_encoder_layers") if key in known}
    return found | {key: len(chosen) for key in LAYER_COUNTS if known.get(key) == count}


def representatives(kinds: Sequence[Any]) -> list[int]:
    """Places, in order, of the first of each kind, and of more up to LAYERS."""
    firsts = [i for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    others = [i for i in range(len(kinds)) if i not in firsts]
    return sorted([*firsts, *others[: max(0, LAYERS - len(firsts))]])


def _tokens(known: dict[str, Any]) -> dict[str, Any]:
    words = len(toys.tokenizer())
    keys = sorted(key for key in known if re.fullmatch(r"\w+_token_id", key) and known[key] is not None)
    return {key: words + i % SPECIAL for i, key in enumerate(keys)}


def _draw(model: nn.Module, seed: int) -> None:
    """Wide weights for all that is a matrix, and biases that are not zero; norms and the like stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]  # a table of sines is not
    for name, parameter in learned:
        if parameter.is_floating_point() and parameter.ndim >= 2 and "A_log" not in name:
            fan_in = WIDTH if "embed" in name or parameter.ndim == 2 else parameter[0].numel()
            scale = GAIN / math.sqrt(min(fan_in, 2 * WIDTH))
            parameter.data.normal_(0, scale, generator=generator)
        elif name.endswith((".bias", "sinks")) and not parameter.any():
            parameter.data.normal_(0, 0.2, generator=generator)
        if not parameter.isfinite().all():  # left as the memory was
            parameter.data.normal_(0, 0.2, generator=generator)
