"""Groups of tests, which share fixtures that are slow to make, stay on one worker."""

import pytest


@pytest.mark.xdist_group("a_group")
def test_a_group_stays_together(request: pytest.FixtureRequest) -> None:
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("all tests run in this process")
    assert request.node.nodeid.endswith("@a_group"), "pytest-xdist does not group: see pyproject"
