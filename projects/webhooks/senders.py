"""The senders of webhooks. Add new ones here."""

from projects.webhooks.azure import AZURE
from projects.webhooks.base import ImageRegistry, Sender
from projects.webhooks.bitbucket import BITBUCKET, BITBUCKET_SERVER
from projects.webhooks.github import GITEA, GITHUB, GITHUB_PACKAGES, GOGS
from projects.webhooks.gitlab import GITLAB
from projects.webhooks.registries import HARBOR, REGISTRY

# The first that matches is the sender. Gitea and Gogs also set GitHub's header.
SENDERS: list[Sender] = [
    GITHUB_PACKAGES,
    AZURE,
    GITEA,
    GOGS,
    GITHUB,
    GITLAB,
    BITBUCKET,
    BITBUCKET_SERVER,
]
IMAGE_REGISTRIES: list[ImageRegistry] = [HARBOR, REGISTRY]
