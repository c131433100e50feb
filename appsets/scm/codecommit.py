"""AWS CodeCommit, by botocore: it signs, pages and retries.

Source: https://docs.aws.amazon.com/codecommit/latest/APIReference/.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import get_session

from appsets.scm.filters import Branch, Repository
from appsets.scm.host import MAX_BYTES, HostError, Spender, origin
from appsets.scm.provider import Provider
from hub.base.outbound import http
from hub.base.outbound.bounds import TooMuch

_TIMEOUT = 30
_CONFIG = {"retries": {"max_attempts": 2, "mode": "standard"}}
_NOT_FOUND_CODES = (
    "BranchDoesNotExistException",
    "FileDoesNotExistException",
    "FolderDoesNotExistException",
    "PathDoesNotExistException",
)


class CodeCommit(Provider):
    """Repositories of an account and region, read as the hub's AWS identity or an assumed role."""

    def __init__(self, spec: Mapping[str, Any], project: str = "") -> None:
        # Not a Host: the library requests several servers and signs each request.
        self.spec, self._project = spec, project
        self._session = get_session()
        self._keys: dict[str, str] = {}
        if spec.get("role"):
            answer = _call(
                self._client("sts").assume_role,
                RoleArn=str(spec["role"]),
                RoleSessionName="flotilla",
            )
            found = answer["Credentials"]
            self._keys = {
                "aws_access_key_id": found["AccessKeyId"],
                "aws_secret_access_key": found["SecretAccessKey"],
                "aws_session_token": found["SessionToken"],
            }
        self._code = self._client("codecommit")

    def _client(self, service: str) -> Any:
        try:
            client = self._session.create_client(
                service,
                region_name=self.spec.get("region") or None,
                config=Config(**_CONFIG),
                **self._keys,
            )
        except (BotoCoreError, ValueError) as error:
            raise HostError(f"CodeCommit: {error}") from error
        # Every request counts, also the library's own requests for pages and retries.
        client.meta.events.register(
            "before-send", lambda request, **_: _send(request, self._project)
        )
        return client

    def close(self) -> None:
        """Close the connections."""
        self._code.close()

    def repositories(self) -> Iterator[Repository]:
        """Yield the repositories, filtered by tags."""
        for name in self._tagged() if self.spec.get("tagFilters") else self._all():
            found = _call(self._code.get_repository, repositoryName=name)["repositoryMetadata"]
            tags = _call(self._code.list_tags_for_resource, resourceArn=found["Arn"])["tags"]
            labels = tuple(f"{k}={v}" if v else k for k, v in sorted(tags.items()))
            yield Repository(
                found["accountId"],
                name,
                found["repositoryId"],
                found["cloneUrlSsh"],
                found["cloneUrlHttp"],
                found.get("defaultBranch", ""),
                labels,
                name,
            )

    def _all(self) -> Iterator[str]:
        for page in _pages(self._code, "list_repositories"):
            yield from (r["repositoryName"] for r in page["repositories"])

    def _tagged(self) -> Iterator[str]:
        wanted: dict[str, list[str]] = {}
        for entry in self.spec["tagFilters"]:
            if not isinstance(entry, Mapping) or not entry.get("key"):
                raise HostError("awsCodeCommit.tagFilters: each entry needs a key")
            wanted.setdefault(str(entry["key"]), []).extend(
                [str(entry["value"])] if entry.get("value") else []
            )
        filters = [{"Key": k, "Values": v} for k, v in wanted.items()]
        client = self._client("resourcegroupstaggingapi")
        for page in _pages(
            client,
            "get_resources",
            ResourceTypeFilters=["codecommit:repository"],
            TagFilters=filters,
        ):
            yield from (r["ResourceARN"].rpartition(":")[2] for r in page["ResourceTagMappingList"])

    def branches(self, one: Repository) -> Iterator[Branch]:
        """Yield all branches."""
        for page in _pages(self._code, "list_branches", repositoryName=one.name):
            for name in page["branches"]:
                if found := self.branch(one, name):
                    yield found

    def branch(self, one: Repository, name: str) -> Branch | None:
        """Return one branch."""
        answer = _call_or_none(self._code.get_branch, repositoryName=one.name, branchName=name)
        return Branch(name, answer["branch"]["commitId"]) if answer else None

    def has_path(self, one: Repository, branch: Branch, path: str) -> bool:
        """Return whether a path is in a branch; files and directories are separate requests."""
        inner = path.strip("/")
        if _call_or_none(
            self._code.get_folder,
            repositoryName=one.name,
            commitSpecifier=branch.sha,
            folderPath=f"/{inner}",
        ):
            return True
        return (
            _call_or_none(
                self._code.get_file,
                repositoryName=one.name,
                commitSpecifier=branch.sha,
                filePath=inner,
            )
            is not None
        )


class _Body:
    """The response body that botocore reads."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Iterator[bytes]:
        yield self._data


def _send(request: Any, project: str) -> AWSResponse:
    """Return the answer to a request that the library signed and the hub's own client sends.

    The library itself would resolve the name again and read an answer of any size.
    """
    Spender(origin(request.url), project).spend()
    names = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    try:
        with (
            http.client(timeout=_TIMEOUT, connect=10) as client,
            client.stream(
                request.method, request.url, headers=names, content=request.body
            ) as answer,
        ):
            data = http.body(answer, MAX_BYTES)
    except (http.HTTPError, TooMuch) as error:
        raise HTTPClientError(error=f"{type(error).__name__}: {error}") from error
    return AWSResponse(request.url, answer.status_code, dict(answer.headers), _Body(data))


def _call(call: Any, **arguments: Any) -> Any:
    try:
        return call(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise HostError(f"CodeCommit: {error}") from error


def _call_or_none(call: Any, **arguments: Any) -> Any | None:
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _NOT_FOUND_CODES:
            return None
        raise HostError(f"CodeCommit: {error}") from error
    except BotoCoreError as error:
        raise HostError(f"CodeCommit: {error}") from error


def _pages(client: Any, name: str, **arguments: Any) -> Iterator[Any]:
    try:
        yield from client.get_paginator(name).paginate(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise HostError(f"CodeCommit: {error}") from error
