"""The OpenAPI document, and the API held to it by generated requests."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headgate.admin.endpoint import Endpoint
from headgate.admin.openapi import document, render
from headgate.admin.table import TABLE

from .world import TOKEN, serving

PAGE = Path(__file__).parents[3] / "docs" / "openapi.json"
# For each endpoint, half of them malformed on purpose; HEADGATE_FUZZ=50 for fifty times as many (`make fuzz`).
LISTED = [one for one in TABLE.endpoints if one.listed]
EXAMPLES = 6 * int(os.environ.get("HEADGATE_FUZZ", "1"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (_, where, _):
        yield where


@pytest.fixture(scope="module")
def schema() -> Any:
    """Imported here, since it takes seconds; its pytest plugin is off in pyproject.toml for the same reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        import schemathesis
    return schemathesis.openapi.from_dict(document(TABLE.endpoints))


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_bytes() == render(), "make it anew: python -m headgate.admin.openapi > docs/openapi.json"


def test_every_endpoint_is_in_it() -> None:
    paths = document(TABLE.endpoints)["paths"]
    assert {(path, method.upper()) for path, row in paths.items() for method in row} == {
        (one.path, one.method) for one in LISTED
    }
    names = [operation["operationId"] for row in paths.values() for operation in row.values()]
    assert len(names) == len(set(names))


# A stream has no end to wait for; test_stream.py has it.
@pytest.mark.parametrize(
    "endpoint", [one for one in LISTED if one.path != "/stream"], ids=lambda one: f"{one.method} {one.path}"
)
def test_it_answers_as_the_document_says(endpoint: Endpoint, schema: Any, address: str) -> None:
    """Never a 5xx, never a status, type or shape that the document does not have; what is malformed is refused.

    One check is left out: what has the right shape may be refused all the same (a backend that is there already).
    """
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    operation = schema[endpoint.path][endpoint.method]
    good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    # Only what has parameters or a body can be malformed.
    varied = bool(endpoint.params or endpoint.query or endpoint.body)
    bad = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) if varied else good

    @settings(
        max_examples=EXAMPLES if varied else 1,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(good, bad))
    def hold(case: Any) -> None:
        case.call_and_validate(
            base_url=f"http://{address}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            excluded_checks=[positive_data_acceptance],
        )

    hold()
