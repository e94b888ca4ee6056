from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from device.errors import DarkrackError
from train.attributes import (
    EXCLUDED,
    LEAST_EIGENVALUE,
    copula,
    quantile_table,
    rank,
    read_accuracy,
    read_excluded,
)

CLASSES = ("Music", "Guitar", "Cat", "Chicken, rooster", "Trumpet")
FEW = settings(deadline=None, max_examples=40)  # the machine may be busy
LOGITS = st.floats(-20.0, 10.0, width=32)


def _sets(most_notes: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(
        np.float32, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=most_notes), elements=LOGITS
    )


def test_ranked_by_the_ninetieth_percentile_without_the_excluded() -> None:
    logits = np.zeros((100, 5), np.float32)
    logits[:, 0] = 9.0  # every note is music
    logits[:20, 4] = 3.0  # one note in five is a trumpet
    logits[:5, 1] = 8.0  # one in twenty a guitar: not within the highest tenth's edge
    logits[:, 2] = -4.0
    ranked = rank(logits, CLASSES, frozenset({"Music"}))
    assert [attribute.name for attribute in ranked] == ["Trumpet", "Guitar", "Chicken, rooster", "Cat"]
    assert ranked[0].index == 4
    assert ranked[0].p90 == ranked[0].rank_score == pytest.approx(1 / (1 + np.exp(-3)))


def test_with_accuracies_it_is_the_geometric_mean_of_both() -> None:
    logits = np.tile(np.array([5.0, 1.0, 0.0, -1.0, -2.0], np.float32), (3, 1))
    accuracy = dict(zip(CLASSES, (0.1, 0.2, 0.3, 1.0, 0.9), strict=True))
    ranked = rank(logits, CLASSES, frozenset(), accuracy)
    expected = {name: np.sqrt(accuracy[name] / (1 + np.exp(-logits[0, i]))) for i, name in enumerate(CLASSES)}
    assert {attribute.name: pytest.approx(attribute.rank_score) for attribute in ranked} == expected
    assert ranked == sorted(ranked, key=lambda attribute: -attribute.rank_score)


def test_an_accuracy_that_is_missing_is_named() -> None:
    with pytest.raises(DarkrackError, match="'Cat', got none, nor for 1 more"):
        rank(np.zeros((3, 5), np.float32), CLASSES, frozenset({"Music"}), {"Guitar": 0.5, "Trumpet": 0.5})


@given(_sets(40))
@FEW
def test_tables_rise_strictly_and_stay_within_the_values(values: np.ndarray) -> None:
    table = quantile_table(values)
    assert table.shape == (values.shape[1], 33)
    assert (np.diff(table) > 0).all()
    assert (np.diff(table.astype(np.float32)) > 0).all()
    assert (np.diff((1 / (1 + np.exp(-table / 2))).astype(np.float32)) > 0).all()
    assert (table[:, 0] >= values.min(axis=0) - 1e-6).all()
    assert (table[:, -1] <= values.max(axis=0) + 33e-4).all()


def test_a_table_holds_the_quantiles() -> None:
    values = np.random.default_rng(0).permutation(np.arange(10_001.0))[:, None]
    np.testing.assert_allclose(quantile_table(values)[0], 50 + 9900 * np.linspace(0, 1, 33), atol=1e-6)


def test_quantiles_of_labels_are_labels_of_quantiles() -> None:
    logits = np.random.default_rng(0).normal(-5, 2, (4001, 3))
    direct = np.quantile(1 / (1 + np.exp(-logits / 2)), 0.5, axis=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-quantile_table(logits)[:, 16] / 2)), direct, rtol=1e-6)


@given(_sets(24))
@FEW
def test_a_copula_is_a_positive_definite_correlation(values: np.ndarray) -> None:
    matrix = copula(values)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.abs(matrix).max() <= 1.0 + 1e-12
    assert np.linalg.eigvalsh(matrix)[0] >= 0.99 * LEAST_EIGENVALUE


@given(_sets(24), st.floats(0.5, 5.0), st.floats(-3.0, 3.0))
@FEW
def test_a_copula_sees_only_the_order(values: np.ndarray, scale: float, offset: float) -> None:
    grid = np.round(values.astype(np.float64), 2)  # so that no transform can merge two values
    before = copula(grid)
    np.testing.assert_allclose(copula(scale * grid + offset), before, atol=1e-9)
    np.testing.assert_allclose(copula(np.arctan(grid / 20)), before, atol=1e-9)
    np.testing.assert_allclose(copula(1 / (1 + np.exp(-grid / 2))), before, atol=1e-9)


def test_a_known_gaussian_correlation_is_recovered() -> None:
    truth = np.array([[1.0, 0.8, -0.3], [0.8, 1.0, 0.1], [-0.3, 0.1, 1.0]])
    values = np.random.default_rng(5).multivariate_normal(np.zeros(3), truth, 20_000)
    np.testing.assert_allclose(copula(np.exp(values)), truth, atol=0.02)


def test_twins_opposites_and_constants() -> None:
    a = np.random.default_rng(2).normal(size=500)
    matrix = copula(np.stack([a, 3 * a, -a, np.zeros(500)], axis=1))
    assert matrix[0, 1] == pytest.approx(1.0, abs=2e-3)
    assert matrix[0, 2] == pytest.approx(-1.0, abs=2e-3)
    assert not matrix[3, :3].any()


def test_a_healthy_matrix_is_left_alone() -> None:
    from scipy.special import ndtri
    from scipy.stats import rankdata

    values = np.random.default_rng(3).normal(size=(300, 4))
    scores = ndtri(rankdata(values, axis=0) / 301)
    np.testing.assert_allclose(copula(values), np.corrcoef(scores.T), atol=1e-12)


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.zeros(3), np.full((5, 2), np.nan)])
def test_what_is_no_set_of_labels_is_refused(values: np.ndarray) -> None:
    for function in (quantile_table, copula):
        with pytest.raises(DarkrackError, match="labels"):
            function(values)


def test_one_note_has_no_correlation() -> None:
    with pytest.raises(DarkrackError, match="at least 2"):
        copula(np.zeros((1, 4)))


def test_excluded_names_with_comments_and_commas(tmp_path: Path) -> None:
    path = tmp_path / "excluded.txt"
    path.write_text("# vague\nMusic   # all of it\n\nChicken, rooster\n")
    assert read_excluded(path, CLASSES) == {"Music", "Chicken, rooster"}


def test_an_excluded_name_that_is_misspelt_gets_its_line_and_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "excluded.txt"
    path.write_text("Music\nTrumpett\n")
    with pytest.raises(
        DarkrackError, match=r"line 2: expected .* got Trumpett\nhint: did you mean 'Trumpet'"
    ):
        read_excluded(path, CLASSES)
    with pytest.raises(DarkrackError, match="one a line"):
        read_excluded(tmp_path / "none.txt", CLASSES)


@pytest.mark.data
@pytest.mark.parametrize("classes_file", ["audioset_527.csv", "yamnet_521.csv"])
def test_the_list_that_is_shipped_fits_both_teachers(darkrack_data: Path, classes_file: str) -> None:
    import csv

    with (darkrack_data / "teachers" / classes_file).open(newline="") as file:
        classes = tuple(row["display_name"] for row in csv.DictReader(file))
    excluded = read_excluded(EXCLUDED, classes)
    assert len(excluded) >= 57  # DarkGAN leaves about so many out
    assert {"Music", "Musical instrument", "Jazz", "Effects unit"} <= excluded
    assert not {"Guitar", "Trumpet", "Singing bowl", "Sine wave"} & excluded


def test_a_table_of_accuracies_is_read(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.csv"
    path.write_text('index,display_name,accuracy\n0,Guitar,.5\n1,"Chicken, rooster",1\n')
    assert read_accuracy(path) == {"Guitar": 0.5, "Chicken, rooster": 1.0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name,ap\nGuitar,.5\n", "the columns display_name and accuracy"),
        ("", "the columns display_name and accuracy"),
        ("display_name,accuracy\nGuitar,.5\nCat,43\n", "line 3.*an accuracy in 0..1"),
        ("display_name,accuracy\nGuitar,good\n", "line 2.*'good'"),
        ("display_name,accuracy\nGuitar\n", "line 2.*None"),
        ("display_name,accuracy\nGuitar,nan\n", "line 2.*'nan'"),
    ],
)
def test_a_wrong_table_of_accuracies_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "accuracy.csv"
    path.write_text(text)
    with pytest.raises(DarkrackError, match=problem):
        read_accuracy(path)
