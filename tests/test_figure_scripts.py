"""Every figure's script writes its PNG and its JSON, and what its caption says holds in the numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts" / "figures"


def drawn(name: str, folder: Path) -> dict[str, Any]:
    """The numbers of a figure's script, run as a reader runs it."""
    command = [sys.executable, SCRIPTS / f"{name}.py", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert "Measured" in numbers["caption"]
    return numbers


def test_knots(tmp_path: Path) -> None:
    numbers = drawn("knots", tmp_path)
    nine, seventeen = numbers["knots"].index(9), numbers["knots"].index(17)
    for sample in numbers["exact_on_the_line"]:
        article = numbers["relative_errors"]["weight, t_max 5"][sample]
        ours = numbers["relative_errors"]["weight, t_max 3"][sample]
        plain = numbers["relative_errors"]["no weight, t_max 5"][sample]
        assert article[nine] < 1e-4
        assert ours[seventeen] < 1e-3
        assert plain[nine] > 10 * article[nine]
        assert numbers["relative_cut_by_t_max"]["weight, t_max 5"][sample] < 1e-5


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, SCRIPTS / "knots.py", tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.slow
def test_ecdf_tests(tmp_path: Path) -> None:
    numbers = drawn("ecdf_tests", tmp_path)
    assert all(uniform < 0.001 < 0.05 < gaussian for uniform, gaussian in numbers["p_values"].values())
    jumps = numbers["largest_jump_of_gradient"]
    assert jumps["Epps-Pulley, weight exp(-t²/2)"] < 0.01
    assert min(jumps["Cramér-von Mises"], jumps["Anderson-Darling"]) > 0.2


@pytest.mark.slow
def test_gaussianise_1d(tmp_path: Path) -> None:
    numbers = drawn("gaussianise_1d", tmp_path)
    value = numbers["epps_pulley_over_N"]
    assert numbers["final_loss"] < numbers["gaussian_floor"]
    assert value["after, test"] < 0.1 * value["before, test"]


@pytest.mark.slow
def test_gaussianise_10d(tmp_path: Path) -> None:
    numbers = drawn("gaussianise_10d", tmp_path)
    assert numbers["final_loss"] < numbers["gaussian_floor"]
    for key in ("mean_statistic", "mean_error", "covariance_error"):
        row = numbers[key]
        assert row["after, training"] < row["N(0, I)"] < row["after, test"] < row["before, test"]


@pytest.mark.slow
def test_projections_2d(tmp_path: Path) -> None:
    numbers = drawn("projections_2d", tmp_path)
    assert abs(numbers["share_of_directions_rejected_in_200_gaussian_clouds"] - 0.05) < 0.02
    assert numbers["share_of_directions_rejected"]["uniform on (-3, 3)²"] == 1
    near = numbers["variance_1_within_10_degrees"]
    assert near["of an axis"] > 2 * near["of a diagonal"]


@pytest.mark.slow
def test_x_distribution(tmp_path: Path) -> None:
    numbers = drawn("x_distribution", tmp_path)
    spikes, after = numbers["statistic_in_95_quantiles"], numbers["correlation_of_squares"]
    assert max(spikes.pop("VCReg")) < 1
    assert all(max(spike) > 10 for spike in spikes.values())
    assert after["2 dimensions"]["VCReg"] > 0.95
    assert after["2 dimensions"]["Epps-Pulley"] < 0.3
    assert after["1024 dimensions"]["Epps-Pulley"] > 0.7


@pytest.mark.slow
def test_sweeps(tmp_path: Path) -> None:
    numbers = drawn("sweeps", tmp_path)
    means = {
        name: [[sum(seeds) / len(seeds) for seeds in row] for row in numbers[name]]
        for name in ("correlation_of_squares_after", "move_of_the_two_coordinates_in_that_of_the_others")
    }
    for after, move in zip(*means.values(), strict=True):
        # Told apart in 3 dimensions, blurred like the rest in 512, whatever the slices.
        assert after[0] < 0.4
        assert move[0] > 1.5
        assert after[-1] > 0.8
        assert move[-1] < 1.2


@pytest.mark.slow
def test_resampling(tmp_path: Path) -> None:
    final = drawn("resampling", tmp_path)["final"]
    assert final["resampled"]["16"] < min(final["fixed"].values())
