"""Presets: each is a figure or table with its grid of runs, and each cell is the run that the same settings give by hand."""

import json
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from anchorflow.runs import SWEEP_WIDE, read_settings
from anchorflow.sweep import prepare_hydra
from tests.launching import failed_politely, launch
from tests.test_settings import CONF, composed

pytestmark = pytest.mark.slow

FOUR = "sst2,trec,agnews,emo"
PRESETS = {  # experiments, models, datasets of scale=full
    "fig3_saliency": ("saliency", "gpt2-xl,gpt-j", FOUR),
    "fig4_isolation": ("isolation", "gpt2-xl,gpt-j", FOUR),
    "fig5_attention_prediction": ("attention_prediction", "gpt2-xl,gpt-j", FOUR),
    "table1_reweighting": ("reweighting,classification", "gpt2-xl", FOUR),
    "table2_compression": ("compression", "gpt2-xl,gpt-j", FOUR),
    "table3_speed": ("compression", "gpt2-xl,gpt-j", FOUR),
    "fig6_diagnosis": ("diagnosis", "gpt2-xl", "trec"),
    "fig14_components": ("diagnosis", "gpt2-xl", "trec"),
    "appendix_two_shot": ("saliency,isolation,attention_prediction,reweighting,compression", "gpt2-xl,gpt-j", FOUR),
    "appendix_semantically_empty_labels": (
        *("classification,saliency,isolation,attention_prediction", "llama-30b"),
        "sst2",
    ),
}
MORE = {"fig14_components": [f"experiment.components={m}" for m in (5, 10, 20, 50, 100, 200)]}
"""What else a preset's grid goes through."""
SCALES = ("full", "small")
NINE = "sst2,subj,financial_phrasebank,hate_speech18,agnews,medical_questions_pairs,mrpc,rte,wnli"
LABELS = {  # presets of the other paper: regimes (of SST-2 where they differ), datasets of scale=full and small
    "nh1_random_labels": ("[default,random]", NINE, "sst2,subj,agnews,novel"),
    "nh2_flipped_labels": ("[default,flipped]", NINE, "sst2,subj,agnews,novel"),
    "nh2_replaced_labels": (
        "[default,flipped,{replaced:[bad,good]},{replaced:[good,bad]},{replaced:[A,B]},{replaced:[B,A]},"
        "{replaced:[green,blue]},{replaced:[blue,green]},{replaced:[sea,chair]},{replaced:[chair,sea]}]",
        NINE.replace("agnews,", ""),
        "sst2,novel",
    ),
    "nh2_prompts": ("[default,flipped]", NINE, "sst2"),
    "nh3_changing_labels": (
        "[default,flipped,{flip_after:20},{default_after:20},{alternating:1}]",
        *(NINE, "sst2,subj,agnews,novel"),
    ),
    "noise_levels": ("[default,{noise:0.25},{noise:0.5},{noise:0.75},{noise:1}]", NINE, "sst2,subj,agnews,novel"),
    "novel_task": ("[default,random,flipped,{replaced:[A,B]},{replaced:[B,A]}]", "novel", "novel"),
}
TEN = (
    "llama-7b,llama-13b,llama-65b,llama2-7b,llama2-13b,llama2-70b,"
    "falcon-7b,falcon-7b-instruct,falcon-40b,falcon-40b-instruct"
)
SIZES = {  # of a repetition, for 2048 and 4096 tokens
    "sst2": (70, 140),
    "subj": (40, 80),
    "financial_phrasebank": (45, 80),
    "hate_speech18": (40, 80),
    "agnews": (30, 50),
    "medical_questions_pairs": (25, 50),
    "mrpc": (20, 40),
    "rte": (15, 30),
    "wnli": (40, 60),
    "novel": (60, 120),
}


def cells(*overrides: str) -> list[list[str]]:
    """What Hydra's sweeper makes of a preset and the command line: the overrides of every cell."""
    prepare_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        values = [o for o in overrides if "," not in o]
        config = compose("config", overrides=values, return_hydra_config=True)
        assert config.hydra.mode.name == "MULTIRUN"
        grid = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        (found,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([*grid, *overrides]), None)
    return found


def by_hand(preset: str, scale: str, experiment: str, model: str, dataset: str) -> list[str]:
    """The paper's settings for one cell, without a preset."""
    queries = 100 if scale == "small" else {"sst2": 872, "trec": 500}.get(dataset, 1000)
    shots, more = 1, []
    if experiment == "isolation":
        more = ["experiment.control=per_layer"]
    if experiment == "compression" and model == "gpt2-xl":
        more = ["experiment.positions=restart"]
    if experiment == "reweighting" and dataset == "agnews":
        more = ["experiment.train_per_class=2"]
    if preset == "table1_reweighting":
        shots = 1 if experiment == "reweighting" else 3 if dataset == "agnews" else 5
    if preset == "appendix_two_shot":
        shots = 2
    if preset == "appendix_semantically_empty_labels":
        shots, more = 8, [*more, "dataset.label_words=[' A',' B']"]
    if preset in ("table1_reweighting", "appendix_two_shot") and dataset == "agnews":
        more = [*more, "too_long=skip"]
    if experiment == "diagnosis" and model == "gpt2-xl":
        more = ["experiment.layer=33"]
    chosen = [f"experiment={experiment}", f"model={model}", f"dataset={dataset}"]
    return [*chosen, f"experiment.n_queries={queries}", f"experiment.shots_per_class={shots}", *more]


def without_sweep(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in SWEEP_WIDE}


def test_every_preset_is_there() -> None:
    assert {path.stem for path in (CONF / "sweep").iterdir()} == {*PRESETS, *LABELS}
    assert composed()["sweep"]["scale"] is None


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_grid_of_a_preset_is_the_papers_and_its_cells_are_the_runs_of_these_settings(
    preset: str, scale: str
) -> None:
    chosen = (f"sweep={preset}", f"sweep.scale={scale}")
    whole = cells(*chosen)
    seeds = range(42, 47 if scale == "full" else 45)
    assert {o for cell in whole for o in cell if o.startswith("seed=")} == {f"seed={seed}" for seed in seeds}
    one_seed = cells(*chosen, "seed=42")
    assert len(whole) == len(one_seed) * len(seeds)

    experiments, models, datasets = PRESETS[preset]
    if scale == "small":
        models, datasets = "smollm2-135m", "sst2,trec" if datasets == FOUR else datasets
    expected = [
        without_sweep(composed(*by_hand(preset, scale, experiment, model, dataset), *more))
        for experiment in experiments.split(",")
        for model in models.split(",")
        for dataset in datasets.split(",")
        for more in ([[typed] for typed in MORE[preset]] if preset in MORE else [[]])
    ]
    found = [composed(*cell) for cell in one_seed]
    for config in found:
        assert config["sweep"]["scale"] == scale
        read_settings(config)
    by_name = {read_settings(config).name: config for config in expected}
    assert len(by_name) == len(expected) == len(found)
    assert {read_settings(config).name: without_sweep(config) for config in found} == by_name


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("preset", LABELS)
def test_presets_of_label_relationships_have_the_papers_models_tasks_and_sizes(preset: str, scale: str) -> None:
    regimes, *datasets = LABELS[preset]
    models = TEN if scale == "full" else "smollm2-135m"
    instructions = ("none", "classify", "invert", "ignore") if preset == "nh2_prompts" else ("none",)
    found = {}
    for cell in cells(f"sweep={preset}", f"sweep.scale={scale}"):
        values = dict(override.split("=", 1) for override in cell)
        dataset = values["dataset"].removeprefix("sentence_answer/")
        found[values["model"], dataset, values.get("experiment.instruction", "none")] = cell
    assert set(found) == set(product(models.split(","), datasets[SCALES.index(scale)].split(","), instructions))
    for (model, dataset, instruction), cell in found.items():
        if model not in ("llama-7b", "llama2-70b", "smollm2-135m") or instruction == "ignore":
            continue  # like the others
        config = composed(*cell)
        assert (config["model"]["name"], config["dataset"]["name"]) == (model, dataset)
        chosen: Any = read_settings(config).experiment
        assert chosen.instruction == instruction
        assert config["seed"] == 42
        assert chosen.n_demonstrations is None
        assert chosen.at_most == SIZES[dataset][model.startswith("llama2")]
        assert chosen.repetitions == (50 if scale == "small" else 100 if preset == "nh2_replaced_labels" else 500)
        assert config["dataset"]["separator"] == "\n\n"
        pair = "{text_pair}" in config["dataset"]["template"]
        assert pair or config["dataset"]["template"] == "Sentence: '{text}' \nAnswer:{label}"
        n, classes = chosen.at_most or 30, len(config["dataset"]["label_words"])
        assert len(chosen.comparisons(n, classes)) >= 2
        if preset == "nh3_changing_labels":
            k = chosen.parsed[2].turn
            assert all(regime.balanced(2 * k) for regime in chosen.parsed[2:])
            assert sum("_at_" in c.name for c in chosen.comparisons(n, classes)) == 3
        for regime in chosen.parsed:
            regime.words(config["dataset"]["label_words"])
        if dataset == "sst2":
            assert config["dataset"]["label_words"] == [" negative", " positive"]
            typed = (f"experiment.regimes={regimes}", f"experiment.at_most={chosen.at_most}")
            more = (f"experiment.repetitions={chosen.repetitions}", f"experiment.instruction={chosen.instruction}")
            where = ("experiment=label_relationships", f"model={model}", "dataset=sentence_answer/sst2")
            assert without_sweep(config) == without_sweep(composed(*where, *typed, *more))


def test_a_preset_knows_models_by_the_beginning_of_their_names() -> None:
    typed = ("sweep=nh1_random_labels", "dataset=subj")
    found = {m: composed(*typed, f"model={m}")["experiment"] for m in ("llama2-70b", "llama-65b", "gpt2")}
    assert {m: e["at_most"] for m, e in found.items()} == {"llama2-70b": 80, "llama-65b": 40, "gpt2": 40}
    assert composed("sweep=nh1_random_labels", "dataset=trec")["experiment"]["at_most"] is None


def test_the_runs_of_table_3_are_those_of_table_2() -> None:
    two, three = (
        {read_settings(composed(*cell)).name for cell in cells(f"sweep={preset}", "seed=42")}
        for preset in ("table2_compression", "table3_speed")
    )
    assert two == three


def test_the_command_line_wins_over_a_preset() -> None:
    typed = ("model=gpt2", "seed=1,2", "dataset=novel", "experiment.n_queries=7", "experiment.random_draws=2")
    found = [composed(*cell) for cell in cells("sweep=fig4_isolation", *typed)]
    assert [config["seed"] for config in found] == [1, 2]
    for config in found:
        assert (config["model"]["name"], config["dataset"]["name"]) == ("gpt2", "novel")
        assert config["experiment"]["n_queries"] == 7
        assert config["experiment"]["random_draws"] == 2
    # What follows from a choice follows from the one on the command line too.
    assert composed("sweep=fig3_saliency", "dataset=trec")["experiment"]["n_queries"] == 500
    assert composed("sweep=appendix_two_shot", "experiment=isolation")["experiment"]["control"] == "per_layer"
    assert composed("sweep=fig4_isolation", "experiment.control=per_seed")["experiment"]["control"] == "per_seed"
    assert composed("sweep=fig6_diagnosis", "model=gpt2")["experiment"]["layer"] is None
    (cell,) = cells("sweep=table1_reweighting", "experiment=classification", "dataset=agnews", "seed=42")
    assert composed(*cell)["experiment"]["shots_per_class"] == 3


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("-m", "sweep=fig3_saliency", "sweep.scale=medium"), "sweep.scale is 'medium': input should be 'full' or"),
        (("sweep=fig3_saliency", "hydra.mode=RUN", "sweep.scale=medium"), "sweep.scale is 'medium': input should be"),
        (("-m", "sweep=fig3_saliency", "+sweep.size=3"), "sweep.size is not a setting of Sweep; allowed: scale"),
        (("-m", "sweep=fig3_saliency,fig4_isolation"), "sweep=fig3_saliency,fig4_isolation names several"),
        (("-m", "sweep=fig3_saliency", "sweep.scale=full,small"), "sweep.scale=full,small names several"),
        (("-m", "seed=1,2", "launcher=local,slurm"), "launcher=local,slurm names several"),
        (("-m", "seed=1,2", "launcher.partition=a,b"), "launcher.partition=a,b names several"),
        (("-m", "seed=1,2", "sweep.scale=small"), "sweep.scale is 'small', but no preset is chosen"),
        (("-m", "seed=1,2", "launcher.packs=0"), "launcher: packs is 0; allowed: 1 or more"),
        (("launcher.timeout_min=soon",), "launcher.timeout_min is 'soon'"),
    ],
)
def test_what_is_no_size_of_a_preset_is_refused_before_anything_runs(
    tmp_path: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    assert complaint in failed_politely(launch(*overrides, "model=tiny", cwd=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_preset_runs_its_cells_and_finds_them_finished(tmp_path: Path) -> None:
    chosen = ("model=tiny", "model.layers=2", "dataset=trec", "tracking=none", "launcher=local")
    small = ("experiment.n_queries=4", "experiment.first_or_last_k=[1]")

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        done = launch(*overrides, *chosen, *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    assert "2 cells: 2 completed" in run("-m", "sweep=fig4_isolation", "sweep.scale=small", "seed=42,43").stderr
    paths = sorted((tmp_path / "outputs").glob("isolation/tiny/trec/seed*/result.json"))
    assert [json.loads(path.read_text())["seed"] for path in paths] == [42, 43]
    again = run("sweep=fig4_isolation", "sweep.scale=full", "seed=42,43").stderr.splitlines()
    assert ["tiny", "2", "2", "0", "0"] in [line.split() for line in again]  # cells, done, to run, packs
    assert "already complete" in run("experiment=isolation", "experiment.control=per_layer", "seed=43").stderr
