"""Settings of the hub, read once from `HUB_*` environment variables; unknown values fail."""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from hub.engine.errors import RuleError
from hub.engine.outbound_addresses import Network, networks
from hub.engine.retry import parse_duration
from hub.events.task_names import TaskName

BASE_DIR = Path(__file__).resolve().parent.parent
# Files that the hub writes (database, mirrors, keys, logs) are private to its user: every process
# reads this module first.
os.umask(0o077)


def text(name: str, default: str = "") -> str:
    """Return a variable, or the content of the file that NAME_FILE names."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        return Path(path).read_text().strip()
    return os.environ.get(name, default)


def flag(name: str, *, default: bool = False) -> bool:
    """Return a variable that is true or false."""
    value = text(name, "true" if default else "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}")
    return value in ("true", "1")


def number(name: str, default: int) -> int:
    """Return a variable that is a whole number."""
    value = text(name, str(default))
    if not value.lstrip("-").isdigit():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}")
    return int(value)


def duration(name: str, default: str) -> timedelta:
    """Return a variable that is a duration such as 120s."""
    try:
        return parse_duration(text(name, default), name)
    except RuleError as error:
        raise ImproperlyConfigured(str(error)) from error


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """Return a variable that is one of some words."""
    value = text(name, default)
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """Return a variable that is a comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def cidrs(name: str) -> tuple[Network, ...]:
    """Return a variable that is a comma-separated list of networks such as 10.0.0.0/8."""
    try:
        return networks(words(name))
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} must list networks such as 10.0.0.0/8: {error}"
        ) from error


def _json_list(name: str) -> list[Any]:
    value = text(name)
    try:
        found = json.loads(value) if value else []
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a JSON list: {error}") from error
    if not isinstance(found, list):
        raise ImproperlyConfigured(f"{name} must be a JSON list")
    return found


def one_of_each(providers: list[Any]) -> list[Any]:
    """Return the entries of HUB_SSO_PROVIDERS, each id and each SAML issuer once.

    The certificate decides which answers are accepted for a SAML issuer: a second entry for the
    same issuer could sign in the first one's accounts.
    """
    ids, issuers = set[str](), dict[str, str]()
    for entry in providers:
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            continue  # reported with its field where providers are read
        slug, kind = str(entry.get("id")), str(entry.get("type", "oidc"))
        name = "entityID" if kind == "saml" else "issuer"
        issuer = str(entry["config"].get(name) or "").rstrip("/")
        if slug in ids:
            raise ImproperlyConfigured(f"HUB_SSO_PROVIDERS: the id {slug!r} is used twice")
        if issuer in issuers and "saml" in (kind, issuers[issuer]):
            raise ImproperlyConfigured(
                f"HUB_SSO_PROVIDERS: config.{name} of {slug!r} is that of another entry, "
                "which could sign for its accounts: use each issuer once"
            )
        ids.add(slug)
        issuers.setdefault(issuer, kind)
    return providers


DATA_DIR = Path(text("HUB_DATA_DIR", str(BASE_DIR / ".flotilla"))).absolute()
EMBEDDED = choice("HUB_MODE", "embedded", ("embedded", "production")) == "embedded"
DEBUG = flag("HUB_DEBUG")
EXTERNAL_URL = text("HUB_EXTERNAL_URL")


def _secret_key() -> str:
    value = text("HUB_SECRET_KEY")
    if value:
        return value
    if not EMBEDDED:
        raise ImproperlyConfigured(
            "HUB_SECRET_KEY (or HUB_SECRET_KEY_FILE) is required with HUB_MODE=production"
        )
    path = DATA_DIR / "secret-key"
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(os.urandom(32).hex())
    return path.read_text().strip()


SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = words("HUB_SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = words("HUB_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if EMBEDDED else "")
if not EMBEDDED and not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "HUB_ALLOWED_HOSTS is required with HUB_MODE=production: the names people use for this hub"
    )


def _database(url: str) -> dict[str, object]:
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "hub.sqlite3",
            "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                "PRAGMA cache_size=-8000;",
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured("HUB_DATABASE_URL must start with postgresql://")
    wanted = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        # Notice a silent server (a failover, a firewall that dropped the connection) after half a
        # minute, not hours.
        "OPTIONS": {
            "connect_timeout": 10,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": 30_000,
            **wanted,
        },
    }


DATABASES = {"default": _database(text("HUB_DATABASE_URL"))}
REDIS_URL = text("HUB_REDIS_URL")
# The number of trusted proxies that append to X-Forwarded-For; 0 ignores the header.
PROXY_HOPS = number("HUB_PROXY_HOPS", 0)
MAX_ADDRESS_FAILURES = number("HUB_MAX_ADDRESS_FAILURES", 5)
if not EMBEDDED and not (REDIS_URL and text("HUB_DATABASE_URL")):
    raise ImproperlyConfigured(
        "HUB_MODE=production needs HUB_DATABASE_URL (PostgreSQL) and HUB_REDIS_URL"
    )

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.saml",
    "allauth.mfa",
    "allauth.idp.oidc",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "hub.apps.HubConfig",
    "clusters.apps.ClustersConfig",
    "projects.apps.ProjectsConfig",
    "appsets.apps.AppsetsConfig",
]
if DATA_DIR.is_dir() and DATA_DIR.stat().st_uid == os.getuid():
    # Folders of an older install may be open to others; a private folder protects its files too.
    DATA_DIR.chmod(0o700)
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
MIDDLEWARE = [
    "hub.http.response_headers.security_headers",
    "hub.http.response_headers.compress",
    "hub.http.database_release.release_database",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "hub.http.nul_characters.refuse_nul_characters",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "hub.auth.middleware.live_session",
]
ROOT_URLCONF = "hub.urls"
ASGI_APPLICATION = "hub.asgi.application"
AUTH_USER_MODEL = "hub.Account"
AUTHENTICATION_BACKENDS = ["hub.auth.account_adapter.LocalBackend"]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = ACCOUNT_LOGOUT_REDIRECT_URL = "/login"
SESSION_COOKIE_NAME = "flotilla.session"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "flotilla.csrf"
ACCOUNT_ADAPTER = "hub.auth.account_adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = "name"
ACCOUNT_USER_MODEL_EMAIL_FIELD = "email"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
# hub.auth.throttling limits passwords, in the database; this limits one-time codes of each account.
ACCOUNT_RATE_LIMITS = {"login": None, "login_failed": "5/300s/key"}
ALLAUTH_TRUSTED_PROXY_COUNT = PROXY_HOPS
SOCIALACCOUNT_ADAPTER = "hub.auth.social_adapter.SocialAdapter"
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_STORE_TOKENS = False
# Sign-in at a provider begins with a link: the CSP's form-action would block a redirect of a form.
SOCIALACCOUNT_LOGIN_ON_GET = True
SSO_PROVIDERS = one_of_each(_json_list("HUB_SSO_PROVIDERS"))
SOCIALACCOUNT_REQUESTS_TIMEOUT = 10
MFA_ADAPTER = "hub.auth.account_adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Flotilla"
IDP_OIDC_ADAPTER = "hub.auth.cli_sign_in.OIDCAdapter"
# The command line exchanges its token for a session of the hub at once.
IDP_OIDC_ACCESS_TOKEN_EXPIRES_IN = 60
IDP_OIDC_RATE_LIMITS = {"device_code": "30/m/ip"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
USE_TZ = True
TIME_ZONE = "UTC"
APPEND_SLASH = False
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
# The largest body of a signed-in sender; hub.http.body_sizes lists routes with other limits.
DATA_UPLOAD_MAX_MEMORY_SIZE = number("HUB_MAX_REQUEST_BYTES", 4 * 1024 * 1024)
MAX_OPEN_REQUESTS = number("HUB_MAX_OPEN_REQUESTS", 200)
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
# W002, W003: hub.http.response_headers sets the frame header, and writes need a JSON content type
# that no form can send. W005, W021: other names of the domain may not use https.
SILENCED_SYSTEM_CHECKS = ["security.W002", "security.W003", "security.W005", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
HTTPS = EXTERNAL_URL.startswith("https://") or (not EMBEDDED and flag("HUB_HTTPS", default=True))
SECURE_SSL_REDIRECT = HTTPS and flag("HUB_HTTPS_REDIRECT")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["hub.rest.framework.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["hub.rest.framework.SignedIn"],
    "DEFAULT_PARSER_CLASSES": ["hub.rest.framework.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "hub.rest.framework.AlwaysJSON",
    "DEFAULT_RENDERER_CLASSES": ["hub.rest.framework.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "hub.rest.openapi.Schema",
    "EXCEPTION_HANDLER": "hub.rest.framework.answer_error",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Flotilla",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "hub.rest.openapi.with_errors",
    ],
}

CACHES = {"default": {"BACKEND": "hub.auth.cache.Cache"}}
CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SOFT_TIME_LIMIT = 120
CELERY_TASK_TIME_LIMIT = 150
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Without a limit: a worker that gave up would have to be restarted by hand.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": TaskName.PROJECTS_SWEEP.value, "schedule": 5.0, "options": {"expires": 5.0}},
    "sets": {"task": TaskName.APPSETS_SWEEP.value, "schedule": 5.0, "options": {"expires": 5.0}},
    "clean-up": {"task": TaskName.PROJECTS_CLEAN_UP.value, "schedule": 3600.0},
}

WORKER_THREADS = number("HUB_WORKER_THREADS", 6)
NAMESPACE = "argocd"
INSTALLATION_ID = text("HUB_INSTALLATION_ID")
TRACKING_METHOD = choice(
    "HUB_TRACKING_METHOD", "annotation", ("annotation", "label", "annotation+label")
)
INSTANCE_LABEL_KEY = text("HUB_INSTANCE_LABEL_KEY", "app.kubernetes.io/instance")
POLL_INTERVAL = duration("HUB_POLL_INTERVAL", "120s")
POLL_JITTER = duration("HUB_POLL_JITTER", "60s")
SESSION_DURATION = duration("HUB_SESSION_DURATION", "24h")
# Page state lives as long as a session; an unfinished sign-in creates a row too.
SESSION_COOKIE_AGE = max(3600, int(SESSION_DURATION.total_seconds()))
EXEC_TIMEOUT = duration("HUB_EXEC_TIMEOUT", "90s")
RENDERERS = number("HUB_RENDERERS", max(2, min(4, os.cpu_count() or 2)))
if RENDERERS < 2:
    raise ImproperlyConfigured("HUB_RENDERERS must be at least 2: one project may hold all but one")
# The render time of one project in ten minutes, and the memory of one render.
RENDER_BUDGET = duration("HUB_RENDER_BUDGET", "300s")
RENDER_MEMORY_BYTES = number("HUB_RENDER_MEMORY_BYTES", 2 * 1024**3)
RENDER_CONFINEMENT = choice("HUB_RENDER_CONFINEMENT", "available", ("available", "required"))
GIT_TIMEOUT = duration("HUB_GIT_TIMEOUT", "60s")
VALIDATION_TIMEOUT = duration("HUB_VALIDATION_TIMEOUT", "30s")
WAVE_DELAY = duration("HUB_WAVE_DELAY", "2s")
SYNC_TIMEOUT = duration("HUB_SYNC_TIMEOUT", "0s")
MAX_MANIFEST_BYTES = number("HUB_MAX_MANIFEST_BYTES", 10 * 1024 * 1024)
MAX_CHART_BYTES = number("HUB_MAX_CHART_BYTES", 256 * 1024 * 1024)
MAX_LOCAL_BYTES = number("HUB_MAX_LOCAL_BYTES", 32 * 1024 * 1024)
MAX_INDEX_BYTES = number("HUB_MAX_INDEX_BYTES", 64 * 1024 * 1024)
MAX_FILE_BYTES = number("HUB_MAX_FILE_BYTES", 64 * 1024**2)
MAX_REPOSITORY_BYTES = number("HUB_MAX_REPOSITORY_BYTES", 4 * 1024**3)
# The free disk space that fetching leaves.
KEEP_FREE_BYTES = number("HUB_KEEP_FREE_BYTES", 500 * 1024**2)
MAX_REFS = number("HUB_MAX_REFS", 100_000)
MAX_WEBHOOK_BYTES = number("HUB_MAX_WEBHOOK_BYTES", 50 * 1024 * 1024)
MAX_POD_LOGS = number("HUB_MAX_POD_LOGS", 10)
# When comparisons use server-side dry runs: when in doubt, always, or never.
SERVER_SIDE_DIFF = choice("HUB_SERVER_SIDE_DIFF", "doubt", ("doubt", "true", "false"))
# The memory of one process for the schemas of clusters, in their compact form.
SCHEMA_BYTES = number("HUB_SCHEMA_BYTES", 8 * 1024 * 1024)
MAX_SUBMODULES = number("HUB_MAX_SUBMODULES", 50)
GIT_SUBMODULES = flag("HUB_GIT_SUBMODULES", default=True)
KUSTOMIZE_OPTIONS = words("HUB_KUSTOMIZE_BUILD_OPTIONS")
HELM_VALUES_SCHEMES = words("HUB_HELM_VALUES_SCHEMES", "https,http")
ENABLED_TOOLS = words("HUB_TOOLS", "Helm,Kustomize,Jsonnet")
WEBHOOK_GITHUB_SECRET = text("HUB_WEBHOOK_GITHUB_SECRET")
WEBHOOK_GITLAB_SECRET = text("HUB_WEBHOOK_GITLAB_SECRET")
WEBHOOK_GITEA_SECRET = text("HUB_WEBHOOK_GITEA_SECRET")
WEBHOOK_BITBUCKET_UUID = text("HUB_WEBHOOK_BITBUCKET_UUID")
WEBHOOK_BITBUCKET_SERVER_SECRET = text("HUB_WEBHOOK_BITBUCKET_SERVER_SECRET")
WEBHOOK_HARBOR_SECRET = text("HUB_WEBHOOK_HARBOR_SECRET")
WEBHOOK_REGISTRY_SECRET = text("HUB_WEBHOOK_REGISTRY_SECRET")
WEBHOOK_AZURE_USERNAME = text("HUB_WEBHOOK_AZURE_USERNAME")
WEBHOOK_AZURE_PASSWORD = text("HUB_WEBHOOK_AZURE_PASSWORD")
# Whether generators of application sets may call hosts, which ones, and how often.
SCM_GENERATORS = flag("HUB_SCM_GENERATORS", default=True)
SCM_SERVERS = words("HUB_SCM_SERVERS")
SCM_REQUESTS_PER_HOUR = number("HUB_SCM_REQUESTS_PER_HOUR", 4500)
SCM_AWS = flag("HUB_SCM_AWS")
APPSET_NAMESPACES = words("HUB_APPSET_NAMESPACES")
# Ed25519 key (PEM) that signs the trail; by default it is derived from HUB_SECRET_KEY.
AUDIT_KEY_FILE = os.environ.get("HUB_AUDIT_KEY_FILE", "")
METRICS_TOKEN = text("HUB_METRICS_TOKEN")
METRICS_PORT = number("HUB_METRICS_PORT", 0)
KUBE_QPS = number("HUB_KUBE_QPS", 200)
KUBE_PARALLELISM = number("HUB_KUBE_PARALLELISM", 8)
# Local repositories are allowed only below this folder.
LOCAL_REPOSITORIES = text("HUB_LOCAL_REPOSITORIES", str(DATA_DIR / "demo") if EMBEDDED else "")
ALLOW_LOOPBACK = flag("HUB_ALLOW_LOOPBACK", default=EMBEDDED)
# Networks (CIDR) that the hub never connects to, and exceptions to the built-in refusals.
OUTBOUND_DENY = cidrs("HUB_OUTBOUND_DENY")
OUTBOUND_ALLOW = cidrs("HUB_OUTBOUND_ALLOW")
# Limits of one cluster's responses: size, size of an object or event, objects, kinds.
CLUSTER_ANSWER_BYTES = number("HUB_CLUSTER_ANSWER_BYTES", 32 * 1024 * 1024)
CLUSTER_OBJECT_BYTES = number("HUB_CLUSTER_OBJECT_BYTES", 8 * 1024 * 1024)
CLUSTER_OBJECTS = number("HUB_CLUSTER_OBJECTS", 500_000)
CLUSTER_KINDS = number("HUB_CLUSTER_KINDS", 5000)
CLUSTER_EVENTS = number("HUB_CLUSTER_EVENTS", 5000)
LOG_FORMAT = choice("HUB_LOG_FORMAT", "text" if EMBEDDED else "json", ("text", "json"))
LOG_LEVEL = choice("HUB_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "hub.base.logs.JSONFormatter"},
        "text": {"()": "hub.base.logs.TextFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "urllib3": {"level": "ERROR"},
        # Its log lines contain whole URLs, and some servers require secrets in theirs.
        "httpx": {"level": "WARNING"},
        "aiohttp": {"level": "WARNING"},
        "git": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
    },
}
