"""The REST surface against its own description: whatever is sent, no answer is a crash or
undocumented.
"""

import os

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from support.sets import elements, manifest

from projects.models import Application, Project

EXAMPLES = int(os.environ.get("HUB_TEST_EXAMPLES", "8"))
# Streams do not end, and the session is needed for what follows.
LEFT_OUT = (
    "/api/v1/stream/",
    "/api/v1/flotilla/watch",
    "/logs",
    "/api/v1/session",
    "/api/schema",
    "/swagger.json",
)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_no_request_breaks_the_hub(idle_hub, live_server):
    """Random bodies, parameters and paths, for everything that the schema names."""
    Project.objects.create(
        name="team",
        spec={"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}]},
    )
    spec = {
        "project": "team",
        "source": {"repoURL": "https://127.0.0.1:1/x.git", "path": ".", "targetRevision": "main"},
        "destination": {"server": "https://kubernetes.default.svc", "namespace": "argocd"},
    }
    Application.objects.create(name="web", project="team", spec=spec)
    idle_hub.post("/api/v1/applicationsets", manifest("s", elements("a")))
    described = requests.get(f"{live_server.url}/swagger.json", timeout=30).json()
    schema = schemathesis.openapi.from_dict(described)
    wrong, asked = [], []
    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.path.startswith(LEFT_OUT) and not operation.path.endswith("/logs"):
            wrong += _wrong_answers(operation, live_server.url, idle_hub.token, asked)
    assert len(asked) > 400
    assert wrong == [], f"{len(wrong)}: {wrong[:5]}"


def _wrong_answers(operation, url, token, asked):
    """Return what one operation answers that is a crash, or that its description does not name."""
    documented, wrong = set(operation.definition.raw["responses"]), []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy())
    def send(case):
        asked.append(operation.path)
        # What exists is hit as often as what does not.
        if "name" in (case.path_parameters or {}) and len(asked) % 2:
            known = (
                "team"
                if "/projects/" in operation.path
                else "s"
                if "sets/" in operation.path
                else "web"
            )
            case.path_parameters["name"] = known
        answer = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
        code = str(answer.status_code)
        # A random path may mean another route, or none.
        is_crash = answer.status_code >= 500 and code not in ("501", "503")
        if is_crash or code not in documented | {"404", "301"}:
            wrong.append(
                (
                    operation.method,
                    operation.path,
                    code,
                    str(case.body)[:200],
                    str(case.query)[:100],
                    answer.text[:160],
                )
            )

    send()
    return wrong
