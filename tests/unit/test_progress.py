"""The figures of a progress, with a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filerbackup.observe.display import render
from filerbackup.observe.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress("snapshot", clock=clock)


def test_counts(progress: Progress, clock: Clock) -> None:
    progress.expect(4, 1000)
    progress.started("a", 100)
    progress.started("b", 300)
    progress.advanced(60)
    clock.now += 10
    figures = progress.look()
    assert (figures.files_done, figures.bytes_done) == (0, 60)
    assert figures.current == ("a", "b")
    progress.advanced(40)
    progress.finished("a", 100)
    progress.failed("b")
    figures = progress.look()
    assert (figures.files_done, figures.bytes_done, figures.failures) == (1, 100, 1)
    assert (figures.files_total, figures.bytes_total) == (4, 1000)
    assert (figures.current, figures.current_count) == ((), 0)
    assert figures.elapsed_s == 10


def test_bytes_need_not_be_told_before_the_end(progress: Progress) -> None:
    progress.started("a", 100)
    progress.finished("a", 100)
    progress.finished("never started", 50)
    assert progress.look().bytes_done == 150


def test_what_passed_of_a_failed_file_does_not_count(progress: Progress) -> None:
    progress.started("a", 100)
    progress.advanced(80)
    progress.failed("a")
    assert progress.look().bytes_done == 0
    progress.started("a", 100)
    progress.advanced(80)
    progress.started("a", 100)
    progress.advanced(80)
    assert progress.look().bytes_done <= 100
    progress.finished("a", 100)
    assert progress.look().bytes_done == 100


def test_what_passed_of_other_files_stays_when_one_is_finished(progress: Progress) -> None:
    progress.started("a", 100)
    progress.started("b", 100)
    progress.advanced(160)
    progress.finished("a", 100)
    assert progress.look().bytes_done == 160


def test_what_passed_of_a_failed_file_is_not_lent_to_the_next(progress: Progress) -> None:
    progress.started("a", 100)
    progress.advanced(80)
    progress.failed("a")
    progress.started("b", 100)
    assert progress.look().bytes_done == 0


def test_a_skipped_file_is_neither_done_nor_failed(progress: Progress) -> None:
    progress.started("a", 100)
    progress.skipped("a")
    progress.skipped("never started")
    figures = progress.look()
    assert (figures.files_done, figures.bytes_done, figures.failures, figures.current) == (0, 0, 0, ())


def test_only_a_few_names(progress: Progress) -> None:
    for number in range(100):
        progress.started(f"f{number}", 1)
    figures = progress.look()
    assert figures.current == ("f0", "f1", "f2")
    assert figures.current_count == 100


def test_totals_are_never_less_than_what_is_done(progress: Progress) -> None:
    progress.expect(1, 10)
    for key in "abc":
        progress.finished(key, 10)
    figures = progress.look()
    assert (figures.files_total, figures.bytes_total) == (3, 30)


def test_rates_are_of_the_last_seconds(progress: Progress, clock: Clock) -> None:
    progress.expect(1000, None)
    assert progress.look().files_per_s is None
    for _ in range(100):
        clock.now += 1
        for _ in range(2):
            progress.finished("x", 1000)
        figures = progress.look()
    assert figures.files_per_s == pytest.approx(2)
    assert figures.bytes_per_s == pytest.approx(2000)
    assert figures.left_s == pytest.approx(800 / 2)
    for _ in range(60):
        clock.now += 1
        for _ in range(5):
            progress.finished("x", 0)
        figures = progress.look()
    assert figures.files_per_s == pytest.approx(5)
    assert figures.bytes_per_s == 0


def test_the_rest_takes_as_long_as_the_slower_of_files_and_bytes(progress: Progress, clock: Clock) -> None:
    progress.expect(11, 1000)
    clock.now += 10
    progress.finished("a", 500)
    assert progress.look().left_s == pytest.approx(100)
    progress.expect(2, 10_500)
    assert progress.look().left_s == pytest.approx(200)


def test_nothing_is_promised_while_nothing_moves(progress: Progress, clock: Clock) -> None:
    progress.expect(10, 100)
    progress.finished("a", 10)
    for _ in range(60):
        clock.now += 1
        figures = progress.look()
    assert figures.left_s is None
    assert figures.files_per_s == 0


def test_unknown_totals(progress: Progress, clock: Clock) -> None:
    clock.now += 5
    progress.finished("a", 10)
    figures = progress.look()
    assert (figures.files_total, figures.bytes_total, figures.left_s) == (None, None, None)
    assert "%" not in render(figures, 200)[0]


@given(
    st.lists(st.tuples(st.sampled_from("safx"), st.sampled_from("abc"), st.integers(0, 1000)), max_size=60)
)
def test_bytes_stay_between_what_is_finished_and_what_is_under_way(steps: list[tuple[str, str, int]]) -> None:
    progress = Progress(clock=lambda: 0.0)
    sizes: dict[str, int] = {}
    done = 0
    for action, key, size in steps:
        match action:
            case "s":
                progress.started(key, size)
                sizes[key] = size
            case "a":
                progress.advanced(size)
            case "f" if key in sizes:
                progress.finished(key, sizes[key])
                done += sizes.pop(key)
            case "x":
                progress.failed(key)
                sizes.pop(key, None)
        assert done <= progress.look().bytes_done <= done + sum(sizes.values())
