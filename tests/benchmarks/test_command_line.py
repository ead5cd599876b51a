"""What the benchmarks say to arguments that they cannot use."""

import pytest


@pytest.mark.parametrize("name", ["cogo", "stepwise", "scan_snap"])
@pytest.mark.parametrize(
    ("arguments", "sentence"), [(["stepp"], "no section 'stepp'"), (["--threads", "0"], "at least 1")]
)
def test_bad_arguments_get_a_sentence(bench, name, arguments, sentence):
    done = bench(name, *arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
