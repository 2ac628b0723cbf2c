"""`worldjepa report`: one page of all that a run has left."""

from ..config import Config
from ..evaluation.report import write_report
from ..run import Run


def run(config: Config) -> int:
    print(write_report(Run(config.run)))
    return 0
