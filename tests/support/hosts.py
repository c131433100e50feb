"""A host of repositories that serves the APIs of seven SCM providers.

One world is told in every dialect, with their pages, entity tags, rate limits and errors, so that a
test says
once what must come out of all.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlencode, urlsplit


class Host:
    """The world, what was asked, and how the host misbehaves."""

    def __init__(self):
        self.repos, self.pulls, self.requests = [], [], []
        self.token = "t0ken"
        self.fail = None
        self.page_size = 2
        self.etags = True
        self.headers = {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                host.answer(self, b"")

            def do_POST(self):
                host.answer(self, self.rfile.read(int(self.headers.get("content-length") or 0)))

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://localhost:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def repo(self, name, branches=None, labels=(), default="main", archived=False, paths=()):
        self.repos.append(
            {
                "name": name,
                "branches": branches or {"main": sha(name, "main")},
                "labels": list(labels),
                "default": default,
                "archived": archived,
                "paths": set(paths),
                "id": 100 + len(self.repos),
            }
        )

    def pull(
        self,
        number,
        branch="feature/One_two",
        target="main",
        title="A change",
        labels=(),
        author="ann",
        state="open",
    ):
        self.pulls = [p for p in self.pulls if p["number"] != number]
        self.pulls.append(
            {
                "number": number,
                "branch": branch,
                "target": target,
                "title": title,
                "labels": list(labels),
                "author": author,
                "state": state,
                "sha": sha(str(number), branch),
            }
        )

    def open(self):
        return [p for p in self.pulls if p["state"] == "open"]

    def find(self, name):
        return next((r for r in self.repos if r["name"] == name), None)

    def answer(self, handler, body):
        parts = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.requests.append((handler.command, handler.path, dict(handler.headers)))
        given = self.fail(parts.path, query) if self.fail else None
        if given is None:
            given = self.told(handler, parts.path, query, body)
        status, value, headers = given if len(given) == 3 else (*given, {})
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = {**self.headers, **headers}
        if self.etags and status == 200 and handler.command == "GET":
            # What an answer says beside its body is part of what is unchanged.
            tag = f'"{hashlib.sha256(data + json.dumps(headers).encode()).hexdigest()[:20]}"'
            headers["ETag"] = tag
            if handler.headers.get("If-None-Match") == tag:
                status, data = 304, b""
        handler.send_response(status)
        for name, text in headers.items():
            handler.send_header(name, text)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)

    def told(self, handler, path, query, body):
        if handler.headers.get("X-Amz-Target"):
            return self.codecommit(
                handler.headers["X-Amz-Target"].rpartition(".")[2], json.loads(body)
            )
        if path == "/plugin/api/v1/getparams.execute":
            return self.plugin(handler, json.loads(body))
        if path.startswith(("/app/installations/", "/api/v3/app/installations/")):
            return 201, {"token": self.token}
        if not self.is_known(handler.headers):
            return 401, {"message": "Bad credentials"}
        for pattern, tell in (
            (r"(?:/api/v3)?/(?:orgs|users)/([^/]+)/repos", self.github_repos),
            (r"(?:/api/v3)?/repos/acme/([^/]+)(/.*)?", self.github_repo),
            (r"/api/v4/groups/([^/]+)/projects", self.gitlab_repos),
            (r"/api/v4/projects/([^/]+)(/.*)?", self.gitlab_repo),
            (r"/api/v1/orgs/([^/]+)/repos", self.gitea_repos),
            (r"/api/v1/repos/acme/([^/]+)(/.*)?", self.gitea_repo),
            (r"/2.0/repositories/acme", self.cloud_repos),
            (r"/2.0/repositories/acme/([^/]+)(/.*)?", self.cloud_repo),
            (r"/rest/api/1.0/projects/ACME/repos", self.server_repos),
            (r"/rest/api/1.0/projects/ACME/repos/([^/]+)(/.*)?", self.server_repo),
            (r"/acme/team/_apis/git/repositories", self.azure_repos),
            (r"/acme/team/_apis/git/repositories/([^/]+)(/.*)?", self.azure_repo),
        ):
            if found := re.fullmatch(pattern, path):
                return tell(query, *[unquote(g or "") for g in found.groups()])
        return 404, {"message": "Not Found"}

    def is_known(self, headers):
        basic = {base64.b64encode(f"{user}:{self.token}".encode()).decode() for user in ("", "bot")}
        said = headers.get("Authorization", "")
        return (
            not self.token
            or headers.get("PRIVATE-TOKEN") == self.token
            or said in (f"Bearer {self.token}", f"token {self.token}")
            or said.removeprefix("Basic ") in basic
        )

    # GitHub, GitLab and Gitea name the next page in the Link header.
    def linked(self, items, query, path):
        page = int(query.get("page", 1))
        pages = max(1, -(-len(items) // self.page_size))
        headers = {}
        if page < pages:
            places = {"next": page + 1, "last": pages}
            headers["Link"] = ", ".join(
                f'<{self.url}{path}?{urlencode({**query, "page": n})}>; rel="{rel}"'
                for rel, n in places.items()
            )
        return 200, items[(page - 1) * self.page_size : page * self.page_size], headers

    def github_repos(self, query, owner):
        if owner != "acme":
            return 404, {"message": "Not Found"}
        items = [
            {
                "id": r["id"],
                "name": r["name"],
                "owner": {"login": "acme"},
                "default_branch": r["default"],
                "topics": r["labels"],
                "archived": r["archived"],
                "ssh_url": f"git@host:acme/{r['name']}.git",
                "clone_url": f"https://host/acme/{r['name']}.git",
            }
            for r in self.repos
        ]
        return self.linked(items, query, "/orgs/acme/repos")

    def github_repo(self, query, name, rest):
        repo = self.find(name)
        if repo is None:
            return 404, {"message": "Not Found"}
        if rest == "/branches":
            items = [{"name": b, "commit": {"sha": s}} for b, s in repo["branches"].items()]
            return self.linked(items, query, f"/repos/acme/{name}/branches")
        if found := re.fullmatch(r"/branches/(.+)", rest):
            commit = repo["branches"].get(found[1])
            return (200, {"name": found[1], "commit": {"sha": commit}}) if commit else (404, {})
        if found := re.fullmatch(r"/contents/(.+)", rest):
            return (200, []) if found[1] in repo["paths"] else (404, {})
        if rest == "/pulls":
            return self.linked(
                [self._github_pull(p) for p in self.open()], query, f"/repos/acme/{name}/pulls"
            )
        if found := re.fullmatch(r"/pulls/(\d+)", rest):
            return self._one(found[1], self._github_pull)
        return 404, {}

    def _one(self, number, shape):
        pull = next((p for p in self.pulls if str(p["number"]) == number), None)
        return (200, shape(pull)) if pull else (404, {})

    def _github_pull(self, p):
        return {
            "number": p["number"],
            "title": p["title"],
            "state": p["state"],
            "user": {"login": p["author"]},
            "labels": [{"name": x} for x in p["labels"]],
            "head": {"ref": p["branch"], "sha": p["sha"]},
            "base": {"ref": p["target"]},
        }

    def gitlab_repos(self, query, group):
        if group != "acme":
            return 404, {"message": "404 Group Not Found"}
        items = [
            {
                "id": r["id"],
                "path": r["name"],
                "namespace": {"full_path": "acme"},
                "default_branch": r["default"],
                "topics": r["labels"],
                "ssh_url_to_repo": f"git@host:acme/{r['name']}.git",
                "http_url_to_repo": f"https://host/acme/{r['name']}.git",
            }
            for r in self.repos
            if not (r["archived"] and query.get("archived") == "false")
        ]
        return self.linked(items, query, "/api/v4/groups/acme/projects")

    def gitlab_repo(self, query, key, rest):
        repo = next(
            (r for r in self.repos if str(r["id"]) == key or f"acme/{r['name']}" == key), None
        )
        if repo is None:
            return 404, {"message": "404 Project Not Found"}
        path = f"/api/v4/projects/{repo['id']}"
        if rest == "/repository/branches":
            items = [{"name": b, "commit": {"id": s}} for b, s in repo["branches"].items()]
            return self.linked(items, query, f"{path}{rest}")
        if found := re.fullmatch(r"/repository/branches/(.+)", rest):
            commit = repo["branches"].get(found[1])
            return (200, {"name": found[1], "commit": {"id": commit}}) if commit else (404, {})
        if rest == "/repository/tree":
            folder = query.get("path", "")
            inside = {
                p[len(folder) :].strip("/").split("/")[0]
                for p in repo["paths"]
                if p.startswith(folder)
            }
            if not inside:
                return 404, {"message": "404 Tree Not Found"}
            return self.linked([{"name": n} for n in sorted(inside)], query, f"{path}{rest}")
        if rest == "/merge_requests":
            wanted = set(filter(None, query.get("labels", "").split(",")))
            items = [
                self._gitlab_pull(p)
                for p in self.pulls
                if query.get("state") in (None, self._gitlab_state(p))
                and wanted <= set(p["labels"])
            ]
            return self.linked(items, query, f"{path}{rest}")
        if found := re.fullmatch(r"/merge_requests/(\d+)", rest):
            return self._one(found[1], self._gitlab_pull)
        return 404, {}

    def _gitlab_state(self, p):
        return {"open": "opened"}.get(p["state"], p["state"])

    def _gitlab_pull(self, p):
        return {
            "iid": p["number"],
            "title": p["title"],
            "state": self._gitlab_state(p),
            "author": {"username": p["author"]},
            "labels": p["labels"],
            "source_branch": p["branch"],
            "target_branch": p["target"],
            "sha": p["sha"],
        }

    def gitea_repos(self, query, owner):
        if owner != "acme":
            return 404, {}
        items = [
            {
                "id": r["id"],
                "name": r["name"],
                "owner": {"login": "acme"},
                "default_branch": r["default"],
                "archived": r["archived"],
                "ssh_url": f"git@host:acme/{r['name']}.git",
                "clone_url": f"https://host/acme/{r['name']}.git",
            }
            for r in self.repos
        ]
        return self.linked(items, query, "/api/v1/orgs/acme/repos")

    def gitea_repo(self, query, name, rest):
        repo = self.find(name)
        if repo is None:
            return 404, {}
        path = f"/api/v1/repos/acme/{name}"
        if rest == "/labels":
            return self.linked([{"name": x} for x in repo["labels"]], query, f"{path}/labels")
        if rest == "/branches":
            return self.linked(
                [{"name": b, "commit": {"id": s}} for b, s in repo["branches"].items()],
                query,
                f"{path}/branches",
            )
        if found := re.fullmatch(r"/branches/(.+)", rest):
            commit = repo["branches"].get(found[1])
            return (200, {"name": found[1], "commit": {"id": commit}}) if commit else (404, {})
        if found := re.fullmatch(r"/contents/(.+)", rest):
            return (200, {}) if found[1] in repo["paths"] else (404, {})
        if rest == "/pulls":
            return self.linked([self._github_pull(p) for p in self.open()], query, f"{path}/pulls")
        if found := re.fullmatch(r"/pulls/(\d+)", rest):
            return self._one(found[1], self._github_pull)
        return 404, {}

    # Bitbucket's cloud names the next page in the body, its server the start of it.
    def wrapped(self, items, query, path):
        page = int(query.get("page", 1))
        body = {"values": items[(page - 1) * self.page_size : page * self.page_size], "page": page}
        if page * self.page_size < len(items):
            body["next"] = f"{self.url}{path}?{urlencode({**query, 'page': page + 1})}"
        return 200, body

    def started(self, items, query):
        start = int(query.get("start", 0))
        last = start + self.page_size >= len(items)
        body = {"values": items[start : start + self.page_size], "start": start, "isLastPage": last}
        return 200, body if last else {**body, "nextPageStart": start + self.page_size}

    def cloud_repos(self, query):
        items = [
            {
                "uuid": f"{{{r['id']}}}",
                "slug": r["name"],
                "mainbranch": {"name": r["default"]},
                "links": {
                    "clone": [
                        {"name": "https", "href": f"https://host/acme/{r['name']}.git"},
                        {"name": "ssh", "href": f"git@host:acme/{r['name']}.git"},
                    ]
                },
            }
            for r in self.repos
        ]
        return self.wrapped(items, query, "/2.0/repositories/acme")

    def cloud_repo(self, query, name, rest):
        repo = self.find(name)
        if repo is None:
            return 404, {}
        path = f"/2.0/repositories/acme/{name}"
        if rest == "/refs/branches":
            return self.wrapped(
                [{"name": b, "target": {"hash": s}} for b, s in repo["branches"].items()],
                query,
                f"{path}{rest}",
            )
        if found := re.fullmatch(r"/refs/branches/(.+)", rest):
            commit = repo["branches"].get(found[1])
            return (200, {"name": found[1], "target": {"hash": commit}}) if commit else (404, {})
        if found := re.fullmatch(r"/src/[0-9a-f]+/(.+)", rest):
            return (200, {}) if found[1] in repo["paths"] else (404, {})
        if rest == "/pullrequests":
            return self.wrapped([self._cloud_pull(p) for p in self.open()], query, f"{path}{rest}")
        if found := re.fullmatch(r"/pullrequests/(\d+)", rest):
            return self._one(found[1], self._cloud_pull)
        return 404, {}

    def _cloud_pull(self, p):
        return {
            "id": p["number"],
            "title": p["title"],
            "state": p["state"].upper(),
            "author": {"nickname": p["author"]},
            "source": {"branch": {"name": p["branch"]}, "commit": {"hash": p["sha"]}},
            "destination": {"branch": {"name": p["target"]}},
        }

    def server_repos(self, query):
        items = [
            {
                "id": r["id"],
                "slug": r["name"],
                "project": {"key": "ACME"},
                "links": {
                    "clone": [
                        {"name": "http", "href": f"https://host/acme/{r['name']}.git"},
                        {"name": "ssh", "href": f"git@host:acme/{r['name']}.git"},
                    ]
                },
            }
            for r in self.repos
        ]
        return self.started(items, query)

    def server_repo(self, query, name, rest):
        repo = self.find(name)
        if repo is None:
            return 404, {}
        if rest == "/branches/default":
            return (
                (200, {"displayId": repo["default"]})
                if repo["default"] in repo["branches"]
                else (404, {})
            )
        if rest == "/branches":
            items = [
                {"displayId": b, "latestCommit": s}
                for b, s in repo["branches"].items()
                if query.get("filterText", "") in b
            ]
            return self.started(items, query)
        if found := re.fullmatch(r"/browse/(.+)", rest):
            return (200, {}) if found[1] in repo["paths"] else (404, {})
        if rest == "/pull-requests":
            return self.started([self._server_pull(p) for p in self.open()], query)
        if found := re.fullmatch(r"/pull-requests/(\d+)", rest):
            return self._one(found[1], self._server_pull)
        return 404, {}

    def _server_pull(self, p):
        return {
            "id": p["number"],
            "title": p["title"],
            "state": p["state"].upper(),
            "author": {"user": {"name": p["author"]}},
            "fromRef": {"displayId": p["branch"], "latestCommit": p["sha"]},
            "toRef": {"displayId": p["target"]},
        }

    # Azure DevOps: a token in a header for refs, $skip for pull requests.
    def azure_repos(self, _query):
        return 200, {
            "value": [
                {
                    "id": str(r["id"]),
                    "name": r["name"],
                    "defaultBranch": f"refs/heads/{r['default']}",
                    "isDisabled": r["archived"],
                    "sshUrl": f"git@host:acme/{r['name']}.git",
                    "remoteUrl": f"https://host/acme/{r['name']}.git",
                }
                for r in self.repos
            ]
        }

    def azure_repo(self, query, key, rest):
        repo = next((r for r in self.repos if key in (str(r["id"]), r["name"])), None)
        if repo is None:
            return 404, {}
        if rest == "/refs":
            start = int(query.get("continuationToken", 0))
            items = [
                {"name": f"refs/heads/{b}", "objectId": s}
                for b, s in repo["branches"].items()
                if f"heads/{b}".startswith(query["filter"])
            ]
            more = start + self.page_size < len(items)
            headers = {"x-ms-continuationtoken": str(start + self.page_size)} if more else {}
            return 200, {"value": items[start : start + self.page_size]}, headers
        if rest == "/items":
            return (200, {}) if query["path"].strip("/") in repo["paths"] else (404, {})
        if rest == "/pullrequests":
            skip, top = int(query.get("$skip", 0)), int(query["$top"])
            return 200, {"value": [self._azure_pull(p) for p in self.open()][skip : skip + top]}
        if found := re.fullmatch(r"/pullrequests/(\d+)", rest):
            return self._one(found[1], self._azure_pull)
        return 404, {}

    def _azure_pull(self, p):
        return {
            "pullRequestId": p["number"],
            "title": p["title"],
            "status": {"open": "active"}.get(p["state"], "completed"),
            "createdBy": {"uniqueName": f"{p['author']}@example.org"},
            "labels": [{"name": x} for x in p["labels"]],
            "sourceRefName": f"refs/heads/{p['branch']}",
            "targetRefName": f"refs/heads/{p['target']}",
            "lastMergeSourceCommit": {"commitId": p["sha"]},
        }

    def codecommit(self, action, body):
        if action == "ListRepositories":
            start = int(body.get("nextToken", 0))
            more = start + self.page_size < len(self.repos)
            page = self.repos[start : start + self.page_size]
            return 200, {
                "repositories": [{"repositoryName": r["name"]} for r in page],
                **({"nextToken": str(start + self.page_size)} if more else {}),
            }
        if action == "GetResources":
            wanted = {f["Key"] for f in body["TagFilters"]}
            found = [r for r in self.repos if wanted <= {x.partition("=")[0] for x in r["labels"]}]
            return 200, {
                "ResourceTagMappingList": [
                    {"ResourceARN": f"arn:aws:codecommit:eu-1:1:{r['name']}"} for r in found
                ],
                "PaginationToken": "",
            }
        name = body.get("repositoryName") or body.get("resourceArn", "").rpartition(":")[2]
        repo = self.find(name)
        if action == "GetRepository":
            return 200, {
                "repositoryMetadata": {
                    "accountId": "acme",
                    "repositoryId": str(repo["id"]),
                    "repositoryName": name,
                    "defaultBranch": repo["default"],
                    "Arn": f"arn:aws:codecommit:eu-1:1:{name}",
                    "cloneUrlSsh": f"git@host:acme/{name}.git",
                    "cloneUrlHttp": f"https://host/acme/{name}.git",
                }
            }
        if action == "ListTagsForResource":
            return 200, {"tags": {k: v for k, _, v in (x.partition("=") for x in repo["labels"])}}
        if action == "ListBranches":
            return 200, {"branches": list(repo["branches"])}
        if action == "GetBranch" and body["branchName"] in repo["branches"]:
            return 200, {
                "branch": {
                    "branchName": body["branchName"],
                    "commitId": repo["branches"][body["branchName"]],
                }
            }
        path = (body.get("folderPath") or body.get("filePath") or "").strip("/")
        if action == "GetFile" and path in repo["paths"]:
            return 200, {
                "filePath": path,
                "fileContent": "",
                "blobId": "1",
                "commitId": "1",
                "fileMode": "NORMAL",
                "fileSize": 0,
            }
        kind = {
            "GetBranch": "BranchDoesNotExistException",
            "GetFolder": "FolderDoesNotExistException",
        }.get(action, "FileDoesNotExistException")
        return 400, {"__type": kind, "message": "not there"}

    def plugin(self, handler, body):
        if handler.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}
        count = int(body["input"]["parameters"].get("count", 2))
        return 200, {
            "output": {
                "parameters": [
                    {"name": f"{body['applicationSetName']}-{n}", "nested": {"n": n}}
                    for n in range(count)
                ]
            }
        }


def sha(*parts):
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:40]
