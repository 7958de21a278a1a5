"""Programs of the tests run the same where there are no forks."""

import os

import pytest

from tests import warm

PROGRAM = """
import os, sys, tests.helpers
print(sys.argv, os.environ["GIVEN"], sys.stdin.read(), end="")
sys.exit(3)
"""


@pytest.mark.parametrize("forks", [True, False])
def test_a_program_gets_what_it_is_given(forks: bool, tmp_path, monkeypatch) -> None:
    if not forks:
        monkeypatch.delattr(os, "fork", raising=False)
    done = warm.run(["a", 1], b"said", program=PROGRAM, cwd=tmp_path, env={"GIVEN": "value"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "['-c', 'a', '1'] value said", "")
