"""One rehearsal of a name at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import EX_UNAVAILABLE, UserError
from validation.rehearsal.network import exclusive


def test_a_second_rehearsal_of_a_name_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    def again() -> None:
        with exclusive("pd", tmp_path):
            pass

    said = pytest.raises(UserError, match="is being rehearsed already")
    with exclusive("pd", tmp_path), exclusive("other", tmp_path), said as error:
        again()
    assert error.value.exit_code == EX_UNAVAILABLE
    again()
