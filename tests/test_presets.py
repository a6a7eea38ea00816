"""Presets: each is a figure or table with its grid of runs, and each cell is the run that the same settings give by hand."""

import json
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from anchorflow.runs import SWEEP_WIDE, read_settings
from anchorflow.sweep import prepare_hydra
from anchorflow.sweep.hydra_internals import _grid
from tests.launching import failed_politely, launch
from tests.test_label_relationships_tasks import TASKS
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
NINE = ",".join(f"sentence_answer/{name}" for name in TASKS)
FOUR_SMALL = "sentence_answer/sst2,sentence_answer/subj,sentence_answer/agnews,novel"
LABELS = {  # presets of the other paper: regimes of SST-2 for contexts of 2k, datasets of scale=full
    "nh1_random_labels": ("[default,random]", NINE),
    "nh1_controls": ("[default,{random:0.5},{random_until:10},shuffled,random,predicted]", NINE),
    "nh2_flipped_labels": ("[default,flipped]", NINE),
    "nh2_replaced_labels": (
        "[default,flipped,{replaced:[no,yes]},{replaced:[yes,no]},{replaced:[bad,good]},{replaced:[good,bad]},"
        "{replaced:[A,B]},{replaced:[B,A]},{replaced:[sad,happy]},{replaced:[happy,sad]},{replaced:[green,blue]},"
        "{replaced:[blue,green]},{replaced:[sea,chair]},{replaced:[chair,sea]},{replaced:[movie,book]},{replaced:[book,movie]}]",
        NINE,
    ),
    "nh2_letters": ("[default,{replaced:[A,B]},{replaced:[B,A]}]", NINE),
    "nh2_prompts": ("[default,flipped]", NINE),
    "nh3_changing_labels": ("[default,flipped,{flip_after:30},{default_after:30},{alternating:1}]", NINE),
    "noise_levels": ("[default,{noise:0.25},{noise:0.5},{noise:0.75},{noise:1}]", NINE),
    "novel_task": ("[default,random,flipped,{replaced:[A,B]},{replaced:[B,A]}]", "novel"),
}
TEN = (
    "llama-7b-8bit,llama-13b-8bit,llama-65b,llama2-7b-8bit,llama2-13b-8bit,llama2-70b,"
    "falcon-7b,falcon-7b-instruct,falcon-40b,falcon-40b-instruct"
)


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
    assert {path.stem for path in (CONF / "sweep").iterdir()} == {*PRESETS, *LABELS, "readme"}
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
def test_presets_of_label_relationships_have_the_papers_models_tasks_and_prompts(preset: str, scale: str) -> None:
    _, datasets = LABELS[preset]
    models = TEN if scale == "full" else "smollm2-135m"
    if scale == "small" and datasets == NINE:
        datasets = FOUR_SMALL
    instructions = ("none", "classify", "instruct", "invert", "ignore") if preset == "nh2_prompts" else ("none",)
    found = set()
    for cell in cells(f"sweep={preset}", f"sweep.scale={scale}"):
        values = dict(override.split("=", 1) for override in cell)
        assert values["seed"] == "42"
        found.add((values["model"], values["dataset"], values.get("experiment.instruction", "none")))
    assert found == set(product(models.split(","), datasets.split(","), instructions))


@pytest.mark.parametrize("context", ["2k", "4k"])
@pytest.mark.parametrize("preset", LABELS)
def test_presets_of_label_relationships_have_the_papers_sizes(preset: str, context: str) -> None:
    regimes, datasets = LABELS[preset]
    large = context == "4k"
    for dataset in datasets.split(","):
        name = dataset.removeprefix("sentence_answer/")
        model = "llama2-7b-8bit" if large else "llama-7b-8bit"
        config = composed(f"sweep={preset}", f"model={model}", f"dataset={dataset}")
        assert config["sweep"]["context"] == context
        as_asked = composed(f"sweep={preset}", "model=tiny", f"dataset={dataset}", f"sweep.context={context}")
        assert as_asked["experiment"] == config["experiment"]
        chosen: Any = read_settings(config).experiment
        sizes, turns = ((60, 120), (20, 40)) if name == "novel" else (TASKS[name].sizes, TASKS[name].turns)
        n = 60 if (preset, name, large) == ("nh3_changing_labels", "hate_speech18", True) else sizes[large]
        assert (chosen.n_demonstrations, chosen.at_most, chosen.draw) == (None, n, "with_replacement")
        assert chosen.repetitions == (100 if preset in ("nh2_replaced_labels", "nh2_letters") else 500)
        classes = len(config["dataset"]["label_words"])
        tests = [c.name for c in chosen.comparisons(n, classes)]
        if preset == "nh3_changing_labels":
            assert [regime.turn for regime in chosen.parsed] == [0, 0, turns[large], turns[large], 1]
            # MRPC's k is half of its 20 examples, and no prediction follows the last one.
            assert sum("_at_" in name for name in tests) == (0 if (name, large) == ("mrpc", False) else 3)
        if preset == "nh2_replaced_labels":
            words = [regime.argument for regime in chosen.parsed if regime.kind == "replaced"]
            assert len(set(words)) == len(words)
            assert set(words) == replacements(name)
        if name == "sst2" and not large:
            typed = (f"experiment.regimes={regimes}", "experiment.n_demonstrations=null", "experiment.at_most=70")
            more = (f"experiment.repetitions={chosen.repetitions}", "experiment.draw=with_replacement")
            where = ("experiment=label_relationships", f"model={model}", f"dataset={dataset}")
            assert without_sweep(config) == without_sweep(composed(*where, *typed, *more))


def replacements(task: str) -> set[tuple[str, ...]]:
    """The method sheet's words in the place of a task's own, in their orders."""
    own = TASKS[task].words
    rotations = [own[i:] + own[:i] for i in range(1, len(own))]
    if task == "financial_phrasebank":
        reversible = [("no", "ok", "yes"), ("bad", "ok", "good")]
        turned = [("A", "B", "C"), ("blue", "green", "yellow")]
        rotated = {words[i:] + words[:i] for words in turned for i in range(3)}
        return {*rotations, own[::-1], *reversible, *(words[::-1] for words in reversible), *rotated}
    if task == "agnews":
        return {*rotations, own[::-1], ("A", "B", "C", "D"), ("D", "C", "B", "A")}
    pairs = ["no/yes", "bad/good", "A/B", "sad/happy", "green/blue", "sea/chair", "movie/book"]
    both = [tuple(pair.split("/")) for pair in pairs]
    return {*both, *(words[::-1] for words in both)}


@pytest.mark.parametrize("model", ["llama-7b", "llama-13b", "llama2-7b", "llama2-13b"])
def test_models_in_8_bits_are_the_others_quantised(model: str) -> None:
    plain, quantised = (composed(f"model={name}")["model"] for name in (model, f"{model}-8bit"))
    assert {key: quantised[key] for key in quantised if quantised[key] != plain[key]} == {
        "name": f"{model}-8bit",
        "quantization": "8bit",
    }


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
        (
            ("-m", "sweep=fig3_saliency,fig4_isolation"),
            "sweep.presets=[fig3_saliency,fig4_isolation] runs several presets.",
        ),
        (("-m", "sweep.presets=[fig3_saliency,fig9]"), "sweep is 'fig9'; allowed: appendix_semantically_empty_labels"),
        (("-m", "sweep.presets=[readme]"), "sweep.presets has 'readme', which is a list of presets; name those"),
        (("sweep.presets=[fig3_saliency]",), "sweep.presets applies to sweeps, but this is a single run; add -m"),
        (("-m", "sweep=fig3_saliency", "sweep.scale=full,small"), "sweep.scale=full,small names several"),
        (("-m", "seed=1,2", "launcher=local,slurm"), "launcher=local,slurm names several"),
        (("-m", "seed=1,2", "launcher.partition=a,b"), "launcher.partition=a,b names several"),
        (("-m", "seed=1,2", "sweep.scale=small"), "sweep.scale is 'small', but no preset is chosen"),
        (("-m", "seed=1,2", "sweep.context=4k"), "sweep.context is '4k', but no preset is chosen"),
        (("-m", "sweep=nh1_random_labels", "sweep.context=8k"), "sweep.context is '8k': input should be '2k' or '4k'"),
        (("-m", "seed=1,2", "launcher.packs=0"), "launcher: packs is 0; allowed: 1 or more"),
        (("launcher.timeout_min=soon",), "launcher.timeout_min is 'soon'"),
    ],
)
def test_what_is_no_size_of_a_preset_is_refused_before_anything_runs(
    tmp_path: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    assert complaint in failed_politely(launch(*overrides, "model=tiny", cwd=tmp_path))
    assert not list(tmp_path.iterdir())


def test_several_presets_are_the_cells_of_each() -> None:
    prepare_hydra()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        master = compose("config", overrides=["sweep=readme"], return_hydra_config=True)
        given = OverridesParser.create().parse_overrides(["sweep=readme", "seed=42,43", "model=gpt2"])
        found = [
            _grid(GlobalHydra.instance().config_loader(), master, preset, given) for preset in master.sweep.presets
        ]
    assert [list(map(set, one)) for one in found] == [
        list(map(set, cells(f"sweep={preset}", "sweep.scale=small", "seed=42,43", "model=gpt2")))
        for preset in master.sweep.presets
    ]


def test_cells_that_presets_share_run_once(tmp_path: Path) -> None:
    few = ("model=tiny", "model.layers=2", "dataset=trec", "tracking=none", "launcher=local", "experiment.n_queries=4")
    three = "sweep.presets=[fig3_saliency,fig5_attention_prediction,fig3_saliency]"
    done = launch("-m", three, "sweep.scale=small", "seed=42", *few, cwd=tmp_path)
    assert "2 cells: 2 completed" in done.stderr, done.stderr
    assert len(list((tmp_path / "outputs").glob("*/tiny/trec/seed42-*/result.json"))) == 2


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
