"""Command line: compose the configuration, run one job (or, with -m, a sweep of them)."""

import sys

import hydra
from omegaconf import DictConfig

from anchorflow import sweep
from anchorflow.runs.job import run_job

sweep.register_resolvers()
sweep.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")  # type: ignore[untyped-decorator]
def main(config: DictConfig) -> None:
    run_job(config)


if __name__ == "__main__":
    sys.argv[1:] = sweep.switches_first(sys.argv[1:])
    with sweep.mistakes_told():
        main()
