"""All strategies answer one question, so they are one group, named after network and images."""

from __future__ import annotations

import pytest

from bench.suite import suite_of
from models import InputError


def pytest_itemcollected(item: pytest.Item) -> None:
    """Group what is compared."""
    from bench.workload import title  # brings torch, which options alone do not need

    try:
        group = title(suite_of(item.config).choice)
    except InputError:  # raised again before anything runs, as a usage error
        return
    item.add_marker(pytest.mark.benchmark(group=group))
