"""Every option file binds to its target's signature; what is unknown or impossible is refused before anything loads."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from anchorflow.errors import UserError
from anchorflow.help import documentation, options
from anchorflow.runs import read_settings
from anchorflow.settings import KINDS, build, defaults_of, digest, kind_of, locate
from anchorflow.sweep import prepare_hydra
from tests.conftest import ROOT

CONF = ROOT / "conf"
GROUPS = ("model", "dataset", "experiment", "tracking", "launcher")
CONTRACT = {
    "model": "smollm2-135m gpt2 gpt2-medium gpt2-large gpt2-xl gpt-j llama-7b llama-13b llama-30b llama-65b llama2-7b "
    "llama2-13b llama2-70b falcon-7b falcon-7b-instruct falcon-40b falcon-40b-instruct qwen3-0.6b tiny local",
    "dataset": "sst2 trec agnews emo subj financial_phrasebank hate_speech18 mrpc rte wnli medical_questions_pairs novel local",
    "experiment": "saliency classification isolation attention_prediction reweighting compression diagnosis "
    "label_relationships",
    "tracking": "auto online offline none",
    "launcher": "auto local slurm submitit_local",
}
LABELS = "label_relationships"
"""Stands for its keys in what is refused."""
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> dict[str, Any]:
    prepare_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


NEEDED = {
    ("model", "local"): ("model.path=x",),
    ("dataset", "local"): ("dataset.path=x",),
    ("dataset", "hub"): ("dataset.id=an/x",),
}
"""What options of one's own things cannot do without."""


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_the_contract_is_there(group: str) -> None:
    assert set(CONTRACT[group].split()) <= {option for g, option in OPTIONS if g == group}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_binds_to_the_signature_of_its_target(group: str, option: str) -> None:
    more = NEEDED.get((group, option), ())
    config = composed(f"{group}={option}", *more)
    made = build(config[group], group)
    called = "x" if more else option  # with its variant, where it is one
    assert getattr(made, "name", called).startswith(called) or getattr(made, "mode", None) == option
    if group in ("experiment", "launcher"):  # every setting is written out, so that it can be found and changed
        assert set(config[group]) == {"_target_"} | {field.name for field in fields(made)}


def test_label_words_and_names_match_in_every_dataset() -> None:
    for _, option in (pair for pair in OPTIONS if pair[0] == "dataset" and pair not in NEEDED):
        node = yaml.safe_load((CONF / "dataset" / f"{option}.yaml").read_text())
        assert all(word.startswith(" ") and not word.startswith("  ") for word in node["label_words"]), option
        assert node["template"].endswith(":{label}"), option


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["experiment.n_queries=0"], "experiment: n_queries is 0; allowed: 1 or more, or null"),
        (["seed=1.0"], "seed is 1.0; allowed: a whole number, written as one (1)"),
        (["experiment.n_queries=1e2"], "experiment.n_queries is 100.0; allowed: a whole number, written as one (100)"),
        (["experiment.n_queries=true"], "experiment.n_queries is True; allowed: a whole number"),
        (["experiment.n_queries=many"], "experiment.n_queries is 'many': input should be a valid integer"),
        (["experiment.keep_examples=-1"], "experiment: keep_examples is -1; allowed: 0 (none) or more"),
        (["experiment.shots_per_class=0"], "experiment: shots_per_class is 0; allowed: 1 or more"),
        (["+experiment.sots=1"], "experiment.sots is not a setting of Saliency; allowed: n_queries, shots_per_class"),
        (["experiment._target_=nowhere.Thing"], "experiment._target_ is 'nowhere.Thing', which cannot be imported"),
        (["+nonsense=1"], "nonsense is not a setting of Job"),
        (["seed=-1"], "seed is -1; allowed: 0 to 2^63 - 1"),
        (["seed=x"], "seed is 'x'"),
        (
            ["batch_tokens=many"],
            "unable to parse string as an integer, or 'auto'",
        ),
        (["batch_tokens=0"], "batch_tokens is 0; allowed: auto, or 1 or more"),
        (["dtype=float8"], "dtype is 'float8': input should be 'auto', 'float64'"),
        (["too_long=cut"], "too_long is 'cut': input should be 'refuse' or 'skip'"),
        (["batch_tokens=0"], "batch_tokens is 0"),
        (["model=tiny", "model.family=bert"], "model.family is 'bert'"),
        (["model=tiny", "model.width=20"], "model: width is 20; allowed: a multiple of"),
        (["model=local"], "model: path is missing; allowed: a hub id, a directory"),
        (["model.quantization=3bit"], "3bit"),
        (["dataset=local"], "dataset: path is missing"),
        (["dataset.template='{text}'"], "dataset: template '{text}' must contain {text} and, as its last field"),
        (["dataset.label_words=[' A',' B',' C']"], "dataset: label_names has 2 entries, label_words has 3"),
        (["dataset=emo", "dataset.source=package"], "dataset: source is 'package', which does not have emo"),
        (["dataset.hub.rows=1"], "rows"),
        (["tracking.mode=sometimes"], "tracking.mode is 'sometimes'"),
        (["experiment=isolation", "experiment.first_or_last_k=[0]"], "first_or_last_k is [0]"),
        (["experiment=isolation", "experiment.keep_examples=-1"], "experiment: keep_examples is -1; allowed: 0 (none)"),
        (
            ["experiment=isolation", "experiment.control=none"],
            "experiment.control is 'none': input should be 'per_seed' or",
        ),
        (["experiment=compression", "experiment.positions=middle"], "experiment.positions is 'middle'"),
        (
            [f"{LABELS}.regimes=[default,fliped]"],
            "regimes has 'fliped'; allowed: default, random, flipped, {noise: ...}",
        ),
        ([f"{LABELS}.regimes=[{{noise:1.5}}]"], "regimes: noise is 1.5; allowed: a probability from 0 to 1"),
        ([f"{LABELS}.regimes=[{{replaced:[A,A]}}]"], "replaced is ['A', 'A']; allowed: a list of words, one for each"),
        ([f"{LABELS}.regimes=[{{flip_after:9}}]", f"{LABELS}.n_demonstrations=9"], "flip_after is 9 with n_demonstrat"),
        (
            [f"{LABELS}.instruction=shout"],
            "experiment.instruction is 'shout': input should be 'none', 'classify', 'instruct'",
        ),
        ([f"{LABELS}.repetitions=0"], "repetitions is 0; allowed: 1 or more"),
    ],
)
def test_what_is_unknown_or_impossible_is_refused_by_name(overrides: list[str], complaint: str) -> None:
    if overrides[0].startswith(LABELS):
        overrides = ["experiment=label_relationships", *(o.replace(LABELS, "experiment") for o in overrides)]
    overrides = [o if not o.startswith(("model.quant", "dataset.hub.")) else f"+{o}" for o in overrides]
    with pytest.raises(UserError) as refused:
        read_settings(composed(*overrides))
    assert complaint in str(refused.value)
    assert len(str(refused.value)) < 400


def test_checking_a_configuration_loads_nothing_heavy() -> None:
    code = """
import sys
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from anchorflow.runs import read_settings
from anchorflow.errors import UserError
from anchorflow.sweep import prepare_hydra
prepare_hydra()
def composed(*overrides):
    with initialize_config_dir(sys.argv[1], version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
read_settings(composed())
try:
    read_settings(composed("experiment.n_queries=0"))
except UserError:
    pass
heavy = {"torch", "transformers", "datasets", "wandb", "matplotlib", "sklearn"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code, str(CONF)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_numbers_have_the_same_directory_and_others_another() -> None:
    def name(*overrides: str) -> str:
        return read_settings(composed(*overrides)).name

    base = name()
    assert base.startswith("saliency/smollm2-135m-instruct-q4_1/sst2/seed42-")
    how = ("device=cpu", "batch_tokens=7", "tracking=none", "tracking.project=x", "launcher=slurm", "launcher.packs=3")
    how += ("experiment.shards=4", "experiment.keep_examples=0", "model.device_map=auto", "sweep.dry_run=true")
    assert {name(override) for override in how} == {base}
    what = (
        "seed=43",
        "experiment.n_queries=7",
        "dtype=float64",
        "dataset.separator=x",
        "too_long=skip",
        "model.path=x",
    )
    assert len({base, *map(name, what)}) == 1 + len(what)
    assert ".." not in name("model.name=../../etc").split("/")
    # A number is the same however it is written, and what has no effect does not count.
    weights = "experiment=reweighting"
    assert name(weights, "experiment.lr=1") == name(weights, "experiment.lr=1.0") != name(weights)
    labels = ("experiment=label_relationships", "experiment.n_demonstrations=5")
    assert name(*labels, "experiment.at_most=9") == name(*labels)


def test_a_run_is_identified_by_what_changes_a_number() -> None:
    def counted(*overrides: str) -> dict[str, Any]:
        chosen = read_settings(composed("model=tiny", "dataset=novel", *overrides))
        return chosen.identity_of(chosen.dataset.load(), "float32")

    base = counted()
    assert set(base["experiment"]) == {"_target_", "version", "n_queries", "shots_per_class", "heads"}
    same = ("experiment.keep_examples=0", "experiment.shards=2", "batch_tokens=5", "model.name=other", "tracking=none")
    assert all(counted(override) == base for override in same)
    other = ("model.layers=2", "experiment.n_queries=3", "dataset.rule_seed=1", "seed=1", "too_long=skip")
    assert len({digest(counted(override)) for override in other} | {digest(base)}) == 1 + len(other)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_setting_says_what_it_does_and_one_line_of_help(group: str, option: str) -> None:
    if "/" in option or group == "launcher":
        group, option = ("launcher", "auto") if group == "launcher" else (group, option)
    text = options(f"{group}={option}")
    node = composed(f"{group}={option}", *NEEDED.get((group, option), ()))[group]
    target = locate(node["_target_"], group)
    for field in fields(target):
        assert kind_of(field) in KINDS
        assert documentation(target)[field.name], field.name
        assert f"{group}.{field.name}" in text


def test_a_yaml_holds_only_what_differs_from_the_defaults() -> None:
    for group, option in OPTIONS:
        written = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
        if "_target_" in written:
            defaults = defaults_of(locate(written["_target_"], group))
            repeated = [key for key, value in written.items() if key in defaults and defaults[key] == value]
            assert not repeated, (group, option, repeated)


def test_options_that_there_are_not_are_answered_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="experiment is 'salience'; allowed: attention_prediction, "):
        options("salience")
    with pytest.raises(UserError, match="there is no group 'models'; allowed: dataset, experiment, "):
        options("models=tiny")


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1}) != digest({"a": 1, "b": [1.5, 0]})


def test_the_launcher_of_the_composed_config_is_hydras_own() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", return_hydra_config=True)
        HydraConfig.instance().set_config(config)
    assert config.hydra.job.chdir is False
    assert Path(config.hydra.sweep.dir).name == "outputs"
