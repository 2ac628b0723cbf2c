"""The direction of imports (docs/house.md), and the house rules that a parser can see."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of each part, which parts it may import besides itself. worldjepa.envs reads as envs.
ALLOWED = {
    "errors": set(),
    "model_config": set(),
    "config": {"errors", "model_config"},
    "options": {"config"},
    "protocols": set(),
    "notation": set(),
    "limits": {"errors", "config", "options", "protocols", "notation"},
    "pretrained": set(),
    "recipes": {"errors", "config", "documents", "options", "limits", "pretrained", "protocols"},
    "rendezvous": {"errors"},
    "documents": set(),
    "files": set(),
    "launch": {"errors"},
    "distributed": {"errors", "config", "rendezvous", "launch"},
}
CORE = set(ALLOWED)
ALLOWED["harmonics"] = set()
ALLOWED["sigreg"] = CORE | {"harmonics"}
ALLOWED["univariate"] = CORE
ALLOWED["resnet"] = set()
ALLOWED["linear"] = set()
ALLOWED["vit"] = set()
ALLOWED["recomputation"] = set()
ALLOWED["encoders"] = CORE | {"linear", "vit", "sigreg", "resnet", "recomputation"}
ALLOWED["predictor"] = CORE | {"linear", "sigreg", "encoders"}
ALLOWED["world_model"] = CORE | {"sigreg", "encoders", "predictor"}
ALLOWED["image_jepa"] = CORE | {"sigreg", "encoders"}
ALLOWED["baselines"] = CORE
RIVALS = CORE | {"baselines", "encoders"}
ALLOWED["image_baselines"] = RIVALS | {"image_jepa"}
ALLOWED["world_baselines"] = RIVALS | {"world_model"}
MODELS = ALLOWED["world_model"] | {"world_model", "image_jepa", "image_baselines", "world_baselines"}
ALLOWED["lewm_weights"] = {"errors"}
ALLOWED["memory"] = set()
ALLOWED["versions"] = set()
ALLOWED["device"] = {"config", "errors", "launch", "memory"}
ALLOWED["data"] = CORE
# Planning sees a model, and an environment, through Protocols.
ALLOWED["planning"] = CORE - {"recipes", "limits"}
ALLOWED["tensor_files"] = {"errors"}
ALLOWED["metric_log"] = {"documents"}
ALLOWED["run"] = MODELS | {"data", "tensor_files", "metric_log"}
ALLOWED["exclusive"] = {"errors"}
ALLOWED["optimizer"] = {"config", "device"}
ALLOWED["profiling"] = {"distributed", "run"}
ALLOWED["stopping"] = set()
ALLOWED["trainer"] = MODELS | {"data", "run", "tensor_files", "device", "optimizer", "profiling", "stopping"}
ALLOWED["evaluation"] = MODELS | {"data", "run", "tensor_files", "trainer", "planning", "vit"}
ALLOWED["commands"] = ALLOWED["evaluation"] | {
    "evaluation",
    "lewm_weights",
    "device",
    "versions",
    "exclusive",
}
# The command line imports a command when it runs it, and from envs the error alone.
ALLOWED["cli"] = CORE | {"envs"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {"run", "world_model", "image_jepa"}
ALLOWED["configs"] = set()
ALLOWED["envs"] = set()


def sources() -> dict[str, str]:
    """Every module that is installed, by its path from the root."""
    paths = [p for folder in ("worldjepa", "envs", "configs") for p in sorted((ROOT / folder).rglob("*.py"))]
    return {str(p.relative_to(ROOT)): p.read_text("utf-8") for p in paths}


def part_of(path: str) -> str:
    """The part of the house that a file belongs to: a module of worldjepa, or a folder."""
    parts = Path(path).with_suffix("").parts
    return parts[1] if parts[0] == "worldjepa" else parts[0]


def imports(path: str, text: str) -> set[str]:
    """Absolute names of the modules that a file imports, at any depth of its code."""
    package = Path(path).parent.parts
    package = package if package[0] == "worldjepa" else ("worldjepa", *package)
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            # `from . import x` names a module by x.
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join((*start, name)) for name in names}
    return found


def back_edges(files: dict[str, str]) -> list[str]:
    """Every import that leads in the wrong direction, as "file imports module"."""
    wrong = []
    for path, text in files.items():
        part = part_of(path)
        for module in sorted(imports(path, text)):
            first, *rest = module.split(".")
            target = rest[0] if first == "worldjepa" and rest else first
            ours = first == "worldjepa" or first in ("envs", "configs", "scripts", "tests")
            if ours and target != part and (first != "worldjepa" or target not in ALLOWED[part]):
                wrong.append(f"{path} imports {module}")
            if part in ("envs", "config", "limits", "recipes", "errors") and first in ("torch", "timm"):
                wrong.append(f"{path} imports {module}")
            if part != "envs" and first in ("mujoco", "dm_control"):
                wrong.append(f"{path} imports {module}")
    return wrong


def test_imports_lead_one_way() -> None:
    assert back_edges(sources()) == []


def test_every_part_of_the_house_has_its_place() -> None:
    assert {part_of(path) for path in sources()} - set(ALLOWED) == set()


@pytest.mark.parametrize(
    ("path", "line", "wrong"),
    [
        ("worldjepa/sigreg.py", "from .world_model import WorldModel", "worldjepa.world_model"),
        ("worldjepa/world_model.py", "from . import trainer", "worldjepa.trainer"),
        ("worldjepa/trainer.py", "from .evaluation.goals import play", "worldjepa.evaluation.goals"),
        ("worldjepa/data/windows.py", "from ..world_model import WorldModel", "worldjepa.world_model"),
        (
            "worldjepa/data/windows.py",
            "def f():\n    from worldjepa.planning import cem",
            "worldjepa.planning",
        ),
        ("worldjepa/planning/cem.py", "from ..run import Run", "worldjepa.run"),
        ("worldjepa/planning/cem.py", "import worldjepa.envs.tasks", "worldjepa.envs.tasks"),
        (
            "worldjepa/evaluation/goals.py",
            "from ..commands.train import open_store",
            "worldjepa.commands.train",
        ),
        ("worldjepa/commands/plan.py", "from ..cli import main", "worldjepa.cli"),
        ("worldjepa/commands/plan.py", "import scripts.figures", "scripts.figures"),
        ("worldjepa/data/collect.py", "from envs.tasks import TASKS", "envs.tasks"),
        ("worldjepa/data/collect.py", "import mujoco", "mujoco"),
        ("envs/tasks.py", "from worldjepa.errors import UserError", "worldjepa.errors"),
        ("envs/tasks.py", "from ..errors import UserError", "worldjepa.errors"),
        ("envs/tasks.py", "import torch", "torch"),
        ("worldjepa/config.py", "import torch.nn", "torch.nn"),
    ],
)
def test_a_back_edge_is_found(path: str, line: str, wrong: str) -> None:
    assert back_edges({path: f"import os\n{line}\n"}) == [f"{path} imports {wrong}"]


def test_what_is_allowed_is_no_back_edge() -> None:
    assert (
        back_edges(
            {
                "worldjepa/data/collect.py": "from ..config import CollectConfig\nfrom .shards import Shard",
                "envs/pixel_env.py": "import mujoco\nfrom .tasks import TASKS",
                "worldjepa/commands/plan.py": "from .train import open_store\nfrom ..evaluation import goals",
            }
        )
        == []
    )


def test_no_module_is_named_for_what_it_is_not() -> None:
    forbidden = {"utils", "common", "helpers", "base", "manager", "util", "misc"}
    assert [p for p in sources() if forbidden & set(Path(p).with_suffix("").parts)] == []


def test_a_module_has_one_idea() -> None:
    # One table, however many options there are.
    table = "worldjepa/config.py"
    lines = {path: text.count("\n") for path, text in sources().items() if path != table}
    assert {path: count for path, count in lines.items() if count > 300} == {}
