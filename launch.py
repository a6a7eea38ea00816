"""Command line: compose the configuration, run one job (or, with -m, a sweep of them)."""

import hydra
from omegaconf import DictConfig

from anchorflow.job import register_resolvers, run_job

register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")  # type: ignore[untyped-decorator]
def main(config: DictConfig) -> None:
    run_job(config)


if __name__ == "__main__":
    main()
