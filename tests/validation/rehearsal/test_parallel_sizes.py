"""Parallel sizes scale to a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.inputs.recipes import Sizes
from validation.rehearsal.cpu_rules import Worker
from validation.rehearsal.parallel_sizes import Machine, scale

counts = st.none() | st.integers(1, 16)
given_sizes = st.builds(Sizes, tp=counts, pp=counts, dp=counts, dp_local=st.none(), pcp=counts)


@pytest.mark.parametrize(
    ("was", "nodes", "share", "now"),
    [
        (Sizes(tp=8, dp=2), 1, 0, Sizes(tp=1, dp=1)),
        (Sizes(tp=4, dp=8), 2, 0, Sizes(tp=1, dp=2)),
        (Sizes(tp=4, dp=8, dp_local=4), 2, 1, Sizes(tp=1, dp=2, dp_local=1)),
        (Sizes(tp=4, dp=8), 2, 4, Sizes(tp=1, dp=8, dp_local=4)),
        (Sizes(tp=4, dp=8), 2, 64, Sizes(tp=4, dp=8, dp_local=4)),
        (Sizes(tp=8, dp=2), 1, 64, Sizes(tp=4, dp=2, dp_local=2)),
        (Sizes(tp=8), 1, 1, Sizes(tp=1)),
        (Sizes(tp=16, pp=1), 2, 1, Sizes(tp=2, pp=1)),
        (Sizes(tp=8, pp=2), 2, 1, Sizes(tp=1, pp=2)),
        (Sizes(), 1, 8, Sizes()),
    ],
)
def test_the_shape_stays(was: Sizes, nodes: int, share: int, now: Sizes) -> None:
    assert scale(was, nodes, share, 4) == now


@given(given_sizes, st.integers(1, 4), st.integers(0, 32))
def test_no_container_is_without_a_worker_and_none_has_more_than_its_share(
    sizes: Sizes, nodes: int, share: int
) -> None:
    made = scale(sizes, nodes, share, 4)
    each = (made.tp or 1) * (made.pp or 1) * (made.pcp or 1)
    world = each * (made.dp or 1)
    assert world % nodes == 0
    assert 1 <= world // nodes <= max(share, 1)
    assert scale(made, nodes, share, 4) == made
    one_rank = (sizes.dp or 1) == 1
    assert nodes == 1 or (made.dp or 1) == (1 if one_rank else made.dp)


def test_a_machine_holds_as_many_workers_as_the_scarcer_of_both_allows() -> None:
    assert Machine(64, 24.0).workers(Worker(1, 3)) == 8
    assert Machine(2, 512.0).workers(Worker(1, 3)) == 2
