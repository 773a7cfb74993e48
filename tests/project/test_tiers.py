"""The tiers: every test is in one, and a unit test that starts a process or opens a socket fails."""

from __future__ import annotations

import pytest

UNIT_TESTS = {
    "starts_a_program": "import subprocess; subprocess.run(['true'])",
    "forks": "import os; os.fork()",
    "starts_a_process": "import multiprocessing as mp; mp.get_context('spawn').Process(target=print).start()",
    "opens_a_socket": "import socket; socket.socket()",
    "computes": "sum(range(10))",
    "runs_an_event_loop": "import asyncio; asyncio.run(asyncio.sleep(0))",
}
MAY_PASS = {"computes", "runs_an_event_loop"}


def test_a_unit_test_that_starts_a_process_or_opens_a_socket_fails(suite: pytest.Pytester) -> None:
    folder = suite.mkdir("unit")
    tests = "".join(f"def test_{name}():\n    {body}\n" for name, body in UNIT_TESTS.items())
    (folder / "test_all.py").write_text(tests)
    (folder / "test_fixture.py").write_text(
        "import os, pytest\n"
        "@pytest.fixture(scope='module')\ndef child():\n    os.fork()\n"
        "def test_has_a_child(child): ...\n"
    )
    result = suite.runpytest_subprocess("-rA")
    result.assert_outcomes(passed=len(MAY_PASS), failed=len(UNIT_TESTS) - len(MAY_PASS), errors=1)
    for name in UNIT_TESTS:
        result.stdout.fnmatch_lines([f"{'PASSED' if name in MAY_PASS else 'FAILED'} *::test_{name}*"])
    result.stdout.fnmatch_lines(["*a unit test must not start a process; mark the test `service` or move it*"])


def test_a_tier_is_decided_by_the_folder_or_by_a_marker(suite: pytest.Pytester) -> None:
    for folder in ("unit", "property", "faults", "contract", "cluster"):
        suite.mkdir(folder)
        (suite.path / folder / "test_one.py").write_text(
            "import pytest\n"
            "def test_by_folder(): ...\n"
            "@pytest.mark.parametrize('engine', ['pool', 'dask'])\ndef test_on(engine): ...\n"
            "@pytest.mark.service\ndef test_by_marker(): ...\n"
            "@pytest.mark.long\ndef test_long(): ...\n"
        )
    with (suite.path / "conftest.py").open("a") as conftest:
        conftest.write(
            "\n\ndef pytest_collection_finish(session):\n"
            "    for item in session.items:\n"
            "        found = {mark.name for mark in item.iter_markers()} & {*TIERS, 'long'}\n"
            "        print('found', item.path.parent.name, item.name, *sorted(found))\n"
        )
    lines = suite.runpytest_subprocess("--collect-only", "-q").stdout.lines
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        if line.startswith("found "):
            _, folder, test, markers = line.split(maxsplit=3)
            found[folder, test] = markers
    tiers = {"unit": "unit", "property": "unit", "faults": "service", "contract": "service", "cluster": "cluster"}
    expected = {(folder, "test_by_folder"): tier for folder, tier in tiers.items()}
    expected |= {(folder, "test_on[pool]"): tier for folder, tier in tiers.items()}
    expected |= {(folder, "test_on[dask]"): tier for folder, tier in tiers.items()} | {
        ("contract", "test_on[dask]"): "cluster"
    }
    expected |= {(folder, "test_by_marker"): "service" for folder in tiers}
    expected |= {(folder, "test_long"): " ".join(sorted((tier, "long"))) for folder, tier in tiers.items()}
    assert found == expected
