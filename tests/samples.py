"""Samples that the univariate tests are tried on, by name: float64, 5 to 400 values each."""

import numpy as np
from numpy.typing import NDArray


def make_samples() -> dict[str, NDArray[np.float64]]:
    """The same at every call."""
    random = np.random.default_rng(7)
    normal = random.standard_normal
    samples = {
        "standard, 5": normal(5),
        "standard, 50": normal(50),
        "standard, 400": normal(400),
        "shifted": normal(100) + 0.5,
        "shifted far": normal(40) - 4,
        "narrow": 0.1 * normal(100),
        "very narrow": 1e-3 * normal(30),
        "wide": 3 * normal(100),
        "shifted and scaled": 0.5 * normal(64) - 1,
        "uniform": random.uniform(-3, 3, 100),
        "uniform of variance 1": random.uniform(-(3**0.5), 3**0.5, 77),
        "Laplace": random.laplace(size=100),
        "Student, 3 degrees": random.standard_t(3, 120),
        "Cauchy": random.standard_cauchy(60),
        "exponential": random.exponential(size=90) - 1,
        "lognormal": random.lognormal(size=80),
        "two points": random.choice([-1.0, 1.0], 50),
        "two points, uneven": random.choice([-0.2, 2.0], 33, p=[0.9, 0.1]),
        "two clusters": normal(100) / 5 + random.choice([-1.5, 1.5], 100),
        "whole numbers": random.integers(-3, 4, 70).astype(float),
        "one far out": np.append(normal(49), 12.0),
        "quantiles": np.linspace(-2.5, 2.5, 51) ** 3 / 5,
        "two values among many": np.repeat([0.3, 0.7], [19, 1]),
        "sine": np.sin(np.arange(96.0)),
    }
    assert len(samples) >= 20
    return samples


SAMPLES = make_samples()
