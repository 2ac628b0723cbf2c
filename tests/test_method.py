"""docs/method.md: what it links to is there; the lines that it shows and its numbers are the code's."""

import ast
import inspect
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from worldjepa import harmonics
from worldjepa.config import PlanConfig, ProbeConfig
from worldjepa.evaluation.geometry import whitening
from worldjepa.evaluation.image_probes import knn_accuracy
from worldjepa.evaluation.regressors import NEIGHBOURS
from worldjepa.evaluation.verdict import constant_latents
from worldjepa.model_config import SIGRegConfig
from worldjepa.planning.costs import closest
from worldjepa.planning.icem import DECAY, KEPT, MOMENTUM
from worldjepa.recipes import load_config
from worldjepa.sigreg import EppsPulley, SIGReg

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "method.md").read_text("utf-8")
PARAGRAPHS = PAGE.split("\n\n")
LINK = re.compile(r"\[`([\w/]+\.py)` · `([\w.]+)`\]\((\.\./worldjepa/[\w/]+\.py)\)")
LINKS = sorted(set(LINK.findall(PAGE)))
CODE = re.compile(r"```python\n(.*?)\n```", re.DOTALL)


def source_of(text: str, name: str) -> str | None:
    """A function, class or method as it stands in a module; None where there is none of this name."""
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        inside = [n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        found = next((n for n in inside if n.name == part), None)
        if found is None:
            return None
        node = found
    return ast.get_source_segment(text, node)


def flush(code: str) -> str:
    """The same lines without what they are indented by."""
    return "\n".join(line.strip() for line in code.splitlines())


def test_a_name_is_found_where_it_is_and_not_elsewhere() -> None:
    module = "class A:\n    def f(self):\n        return 1\n\ndef g():\n    return 2\n"
    assert source_of(module, "A.f") == "def f(self):\n        return 1"
    assert source_of(module, "g") == "def g():\n    return 2"
    assert [source_of(module, name) for name in ("f", "A.g", "B", "g.f")] == [None] * 4


@pytest.mark.parametrize(("file", "name", "path"), LINKS, ids=[f"{file}-{name}" for file, name, _ in LINKS])
def test_what_is_linked_is_there(file: str, name: str, path: str) -> None:
    assert path == f"../worldjepa/{file}"
    assert source_of((DOCS / path).read_text("utf-8"), name)


def test_every_link_to_code_names_what_it_links_to() -> None:
    assert PAGE.count("../worldjepa/") == len(LINK.findall(PAGE))


def test_every_equation_is_followed_by_its_code() -> None:
    for equation, following in pairwise(PARAGRAPHS):
        if equation.startswith("$$"):
            assert equation.endswith("$$")
            assert following.startswith("$$") or LINK.match(following), equation
    assert sum(paragraph.startswith("$$") for paragraph in PARAGRAPHS) > 20


def test_the_lines_shown_are_lines_of_what_is_linked_above_them() -> None:
    blocks = [(above, CODE.fullmatch(block)) for above, block in pairwise(PARAGRAPHS)]
    shown = [(above, match[1]) for above, match in blocks if match]
    assert len(shown) == PAGE.count("```python")
    for above, block in shown:
        sources = [source_of((DOCS / path).read_text("utf-8"), name) for _, name, path in LINK.findall(above)]
        assert any(flush(block) in flush(source or "") for source in sources), block


@pytest.mark.parametrize("spoilt", [r"\\[^A-Za-z]", r"[)}\]\s]_", r"\*", "<", r"\|"])
def test_mathematics_survives_markdown(spoilt: str) -> None:
    """GitHub reads Markdown before mathematics: it takes backslashes before signs, and makes pairs of some
    underscores italic."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", PAGE, flags=re.DOTALL)
    assert prose.count("$") % 2 == 0
    spans = re.findall(r"\$\$(.*?)\$\$|\$([^$]+)\$", prose, re.DOTALL)
    assert [span for pair in spans for span in pair if re.search(spoilt, span)] == []


def default(function: Callable[..., object], argument: str) -> float:
    return inspect.signature(function).parameters[argument].default


NUMBERS: list[tuple[str, float]] = [
    (r"`model\.sigreg\.weight` is λ = ([\d.]+),", SIGRegConfig().weight),
    (r"`reacher_gpu` has λ = ([\d.]+),", load_config("reacher_gpu").model.sigreg.weight),
    (r"\$K\$ is (\d+),", SIGRegConfig().num_slices),
    (r"in LeWM ([\d,]+)\.", load_config("reacher_gpu").model.sigreg.num_slices),
    (r"\$f\$ = (\d+) by default", default(SIGReg.__init__, "reference_batch")),
    (r"(\d+) knots on \[0, 3\]", SIGRegConfig().knots),
    (r"17 knots on \[0, (\d+)\] as", SIGRegConfig().t_max),
    (r"\$J\$ = (\d+)\.", len(EppsPulley().quadrature(torch.empty(0))[0])),
    (r"\\sigma = \\sqrt (\d)\$", EppsPulley().bandwidth ** 2),
    (r"it is ([\d.]+) whatever", EppsPulley().floor),
    (r"\(([\d.]+) with 17 knots on \[0, 5\]\)", EppsPulley(5.0, 17).floor),
    (r"\(1 - \\varphi_j\)\^2 = ([\d.]+)", constant_latents(SIGRegConfig())),
    (r"\\Sigma \+ ([\d.]+) \\cdot", default(whitening, "floor")),
    (r"\\min_h d_h \+ ([\d.]+) ", 2 * float(closest(torch.tensor([0.0, 1.0])))),
    (r"`plan\.smoothness_cost`, both (\d)", PlanConfig().smoothness_cost + PlanConfig().action_cost),
    (r"\\mu \\leftarrow ([\d.]+) \\cdot \\mu", MOMENTUM),
    (r"\\cdot \\mu \+ ([\d.]+) ", 1 - MOMENTUM),
    (r"`plan\.noise_exponent`, β = (\d)", PlanConfig().noise_exponent),
    (r"share of ([\d.]+) of", KEPT),
    (r"factor ([\d.]+) from", DECAY),
    (r"\\tau = ([\d.]+) \\cdot", PlanConfig().temperature),
    (r"`plan\.temperature`, here ([\d.]+)\.", PlanConfig().temperature),
    (r"`probe\.ridge`\) is (\d)", ProbeConfig().ridge),
    (r"mean of (\d+) neighbours", NEIGHBOURS),
    (r"nearest (\d+) training", default(knn_accuracy, "neighbours")),
    (r"x_i\) / ([\d.]+)\)", default(knn_accuracy, "temperature")),
]


@pytest.mark.parametrize(("pattern", "value"), NUMBERS, ids=[pattern for pattern, _ in NUMBERS])
def test_numbers_are_the_codes(pattern: str, value: float) -> None:
    (said,) = re.findall(pattern, " ".join(PAGE.split()))
    digits = len(said.partition(".")[2])
    assert float(said.replace(",", "")) == round(value, digits)


def test_harmonics_start_afresh_where_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = re.findall(r"after (\d+) harmonics", PAGE)
    angles: list[float] = []
    monkeypatch.setattr(
        harmonics, "_cosine_and_sine", lambda angle, out: angles.append(float(angle[0, 0])) or out.zero_()
    )
    harmonics.harmonic_sums(torch.ones(1, 1), 1.0, 2 * int(said))
    afresh = [angle for angle in angles if angle > 1]
    assert afresh == [int(said) + k for k in (-1, 0, 1, 2)]


def test_statistic_and_gradient_are_those_of_the_page() -> None:
    """Written from the page, in its signs."""
    torch.manual_seed(0)
    N, J, f, t_max = 20, 16, 128, 3.0
    x = 1.5 * torch.randn(N, dtype=torch.float64) + 0.2
    j = torch.arange(1, J + 1, dtype=torch.float64)
    t, spacing = j * t_max / J, t_max / J
    phi, w = torch.exp(-(t**2) / 2), 2 * spacing * torch.exp(-(t**2) / 2)
    w[-1] = spacing * torch.exp(-(t[-1] ** 2) / 2)
    c, s = torch.cos(t[:, None] * x).mean(1), torch.sin(t[:, None] * x).mean(1)
    slope = s[:, None] * torch.cos(t[:, None] * x) - (c - phi)[:, None] * torch.sin(t[:, None] * x)
    leaf = x.clone().requires_grad_()
    statistic = EppsPulley()(leaf, f)
    statistic.backward()
    torch.testing.assert_close(statistic.detach(), f * (w * ((c - phi) ** 2 + s**2)).sum())
    torch.testing.assert_close(leaf.grad, 2 * f / N * ((w * t)[:, None] * slope).sum(0))
