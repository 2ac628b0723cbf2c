"""What figures of image features show: a map of the test images, and what is found for some of them."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from ..data.images import Images
from .cloud import plane

QUERIES, FOUND, MAPPED = 10, 8, 2000


def nearest(queries: np.ndarray, bank: np.ndarray, count: int) -> np.ndarray:
    """Numbers (n, count) of the features (N, F) with the largest cosine similarity to each of (n, F), the
    nearest first."""
    unit_queries, unit_bank = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, bank)
    )
    return np.argsort(-(unit_queries @ unit_bank.T), axis=1, kind="stable")[:, :count]


def flat_map(features: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """Features (n, F) in the plane, (n, 2) float32, by their two principal components ("pca") or by t-SNE
    of up to fifty ("tsne"; van der Maaten and Hinton, JMLR 9, 2008), whose distances mean little."""
    standardised = StandardScaler().fit_transform(features)
    if len(features) < 2:
        return np.zeros((len(features), 2), np.float32)
    # t-SNE has no neighbours among so few.
    if kind == "pca" or min(standardised.shape) < 4:
        return plane(standardised).astype(np.float32)
    components = min(50, *standardised.shape)
    reduced = PCA(components, random_state=seed).fit_transform(standardised)
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def image_arrays(
    train: Images,
    test: Images,
    train_numbers: np.ndarray,
    test_numbers: np.ndarray,
    x_train: np.ndarray,
    x_test: np.ndarray,
    kind: str,
    seed: int,
) -> dict[str, np.ndarray]:
    """What the figures need, as arrays: "map" (m, 2) with "map_labels" (m,), and "queries" (q, H, W, C) uint8
    with "query_labels" (q,), one or more of each class, beside "found" (q, n, H, W, C) and "found_labels"
    (q, n), the nearest training images.

    Args:
        train_numbers, test_numbers: of the images that the features (n, F) are of.
        kind: of the map. seed: of what is drawn.
    """
    assert train.labels is not None
    assert test.labels is not None
    y_train, y_test = train.labels[train_numbers], test.labels[test_numbers]
    order = np.random.default_rng(seed).permutation(len(y_test))
    # The first of each class, then the second of each, and so on.
    turn = np.empty(len(order), np.int64)
    for label in np.unique(y_test):
        own = y_test[order] == label
        turn[own] = np.arange(own.sum())
    queries = order[np.lexsort((y_test[order], turn))][:QUERIES]
    found = nearest(x_test[queries], x_train, FOUND)
    mapped = order[:MAPPED]
    return {
        "map": flat_map(x_test[mapped], kind, seed),
        "map_labels": y_test[mapped],
        "queries": test.batch(test_numbers[queries])["pixels"].numpy(),
        "query_labels": y_test[queries],
        "found": np.stack([train.batch(train_numbers[row])["pixels"].numpy() for row in found]),
        "found_labels": y_train[found],
    }
