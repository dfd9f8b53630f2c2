"""Settings: embedded stores by default, servers by environment variables alone (see env.py)."""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url

from portal.settings import env

BASE_DIR = env.BASE_DIR
STATE_DIR = env.folder("IMAGINGX_STATE_DIR")
DATA_ROOT = env.folder("IMAGINGX_DATA_ROOT")
STATE_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = env.flag("IMAGINGX_DEBUG")


def _kept_key(name: str, size: int) -> str:
    """A key of `size` bytes, made once and kept beside the database."""
    path = STATE_DIR / name
    if not path.exists():
        partial = path.with_name(f".{name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600), "w") as made:
            made.write(base64.urlsafe_b64encode(secrets.token_bytes(size)).decode())
        with suppress(FileExistsError):  # another process was faster: its key counts
            os.link(partial, path)
        partial.unlink()
    return path.read_text()


SECRET_KEY = env.text("IMAGINGX_SECRET_KEY") or _kept_key("secret_key", 64)
# Under which the credentials of users are sealed; the first seals, each opens.
CREDENTIAL_KEYS = env.fernet_keys("IMAGINGX_CREDENTIAL_KEYS") or [_kept_key("credential_key", 32)]
ALLOWED_HOSTS = env.words("IMAGINGX_ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.words("IMAGINGX_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sitemaps",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "corsheaders",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "catalog",
    "fusion",
    "workers",
    "portal",
]
MIDDLEWARE = [
    "portal.middleware.RequestId",
    # Before all that may answer by itself: refusals and files need them too.
    "portal.middleware.ContentSecurityPolicy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.middleware.BodyLimit",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.ApiManners",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Database: SQLite in WAL mode, or PostgreSQL by URL.
_database_url = env.url("IMAGINGX_DATABASE_URL", ("postgres", "postgresql", "sqlite"))
if _database_url:
    _database: dict[str, Any] = {
        **dj_database_url.parse(_database_url, conn_max_age=60, conn_health_checks=True)
    }
else:
    _database = {"ENGINE": "django.db.backends.sqlite3", "NAME": STATE_DIR / "db.sqlite3"}
if _database["ENGINE"].endswith("sqlite3"):
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=30000;"
        ),
    }
elif _database["ENGINE"].endswith("postgresql"):
    # A peer that vanished is noticed on both ends within half a minute, and what it had locked is
    # free again, so that another worker can take its runs over. Options of the URL go first.
    _patience = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 4}
    _session = {
        **_patience,
        "tcp_user_timeout": 30_000,
        "idle_in_transaction_session_timeout": 60_000,
    }
    _database["OPTIONS"] = {
        "connect_timeout": 10,
        "tcp_user_timeout": 30_000,
        **{name.removeprefix("tcp_"): value for name, value in _patience.items()},
        "options": " ".join(f"-c {name}={value}" for name, value in _session.items()),
        **_database.get("OPTIONS", {}),
    }
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Search: tantivy in process, or Elasticsearch 8 by URL.
SEARCH_URL = env.url("IMAGINGX_SEARCH_URL", ("http", "https"))
SEARCH_INDEX = env.text("IMAGINGX_SEARCH_INDEX")
SEARCH_DIR = STATE_DIR / "search"

# Fusion: what weighs how much when datasets are set beside each other (docs/blueprint.md).
COMPATIBILITY_WEIGHTS = env.weights("IMAGINGX_SCORE_WEIGHTS")

# Queue: files in the state folder (docs/adr/0002-embedded-broker.md), or Redis or RabbitMQ by URL.
RUN_LEASE_SECONDS = env.integer("IMAGINGX_RUN_LEASE_SECONDS", minimum=2)
CELERY_BROKER_URL = env.url("IMAGINGX_BROKER_URL", ("redis", "rediss", "amqp", "amqps"))
if not CELERY_BROKER_URL:
    CELERY_BROKER_URL = "filesystem://localhost"
    CELERY_BROKER_TRANSPORT = "workers.broker:Transport"
    _queue = STATE_DIR / "queue"
    _queue.mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_queue),
        "data_folder_out": str(_queue),
        "polling_interval": 0.1,
    }
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
elif CELERY_BROKER_URL.startswith("redis"):
    CELERY_BROKER_TRANSPORT = "workers.redis_broker:Transport"
    # What a dead worker had in hand is given out again after so long; the rows found its work
    # after one lease. What a living one has for longer comes twice, and its row decides.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "visibility_timeout": 5 * RUN_LEASE_SECONDS,
        "unacked_restore_throttle": 1,  # look each time, every 10 s, not each tenth time
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 2_000_000  # KiB; a child above it is replaced between tasks
CELERY_TASK_DEFAULT_QUEUE = "cpu"
CELERY_TASK_QUEUE_MAX_PRIORITY = 9  # RabbitMQ orders a queue only where it was declared with it
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a broker may be away for a night
# RabbitMQ closes the channel of a message that is held for longer than its consumer_timeout: the
# worker opens another one instead of ending.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# The catalog's sources and links (docs/operating.md).
REFRESH = env.flag("IMAGINGX_REFRESH")
REFRESH_SECONDS = env.integer("IMAGINGX_REFRESH_SECONDS", minimum=1)
HARVEST_HOURS = env.hours("IMAGINGX_HARVEST_HOURS")
LINK_CHECK_DAYS = env.integer("IMAGINGX_LINK_CHECK_DAYS", minimum=1)
LINK_PAUSE_SECONDS = env.integer("IMAGINGX_LINK_PAUSE_SECONDS")
IDC_INDEX_URL = env.url("IMAGINGX_IDC_INDEX_URL", ("http", "https"))
OPENNEURO_TABLE_URL = env.url("IMAGINGX_OPENNEURO_TABLE_URL", ("http", "https"))

CELERY_BEAT_SCHEDULE = {
    "tidy": {"task": "workers.tasks.tidy", "schedule": 3600.0},
    **(
        {"refresh": {"task": "workers.tasks.refresh", "schedule": float(REFRESH_SECONDS)}}
        if REFRESH
        else {}
    ),
}
CELERY_BEAT_SCHEDULE_FILENAME = str(STATE_DIR / "beat")
TIDY_SECONDS = 3600  # how often each worker removes what nobody needs, beat or no beat
RUN_WATCH_SECONDS = 10  # how often a worker looks for lost runs
RUN_MAX_ATTEMPTS = 5  # claims of a run without progress before it fails
CHUNK_MAX_ATTEMPTS = 3  # claims of a chunk without progress before it is done case by case
RUN_RETRY_SECONDS = 15  # first wait after a fault that may pass; doubles
RUNS_AT_ONCE = env.integer("IMAGINGX_RUNS_AT_ONCE")
RUNS_AT_ONCE_PER_USER = env.integer("IMAGINGX_RUNS_AT_ONCE_PER_USER")

# Fusion: scratch, bundles, compute.
WORK_DIR = STATE_DIR / "work"
BUNDLE_DIR = STATE_DIR / "bundles"
CHUNK_CASES = env.integer("IMAGINGX_CHUNK_CASES")
RESULTS_DIR = STATE_DIR / "results"
RESULTS_BYTES = env.integer("IMAGINGX_RESULTS_GB") * 10**9
BUNDLE_BYTES = env.integer("IMAGINGX_BUNDLE_GB") * 10**9
BUNDLE_BYTES_PER_USER = env.integer("IMAGINGX_BUNDLE_GB_PER_USER") * 10**9
DISK_RESERVE_BYTES = env.integer("IMAGINGX_DISK_RESERVE_GB") * 10**9
KEEP_FAILED_HOURS = env.integer("IMAGINGX_KEEP_FAILED_HOURS")
KEEP_BUNDLES = env.integer("IMAGINGX_KEEP_BUNDLES")
KEEP_BUNDLE_DAYS = env.integer("IMAGINGX_KEEP_BUNDLE_DAYS")
KEEP_CACHE_DAYS = env.integer("IMAGINGX_KEEP_CACHE_DAYS")
VIEWER_BYTES = env.integer("IMAGINGX_VIEWER_MB", minimum=1) * 10**6
DEVICE = env.one_of("IMAGINGX_DEVICE", ("auto", "cpu", "cuda"))
THREADS = env.integer("IMAGINGX_THREADS")
HARMONISE_WORKERS = env.integer("IMAGINGX_HARMONISE_WORKERS")

# Data of users (docs/fusing-your-data.md).
UPLOAD_DIR = env.folder("IMAGINGX_UPLOAD_DIR", STATE_DIR / "uploads")
UPLOAD_BYTES = env.integer("IMAGINGX_UPLOAD_GB") * 10**9
UPLOAD_BYTES_PER_USER = env.integer("IMAGINGX_UPLOAD_GB_PER_USER") * 10**9
FILE_UPLOAD_TEMP_DIR = str(STATE_DIR / "forms")  # files of forms on their way
(STATE_DIR / "forms").mkdir(parents=True, exist_ok=True)
KEEP_UPLOAD_DAYS = env.integer("IMAGINGX_KEEP_UPLOAD_DAYS", minimum=1)

_storage_url = env.url("IMAGINGX_STORAGE_URL", ("s3",))
if _storage_url:
    _bucket, _, _prefix = _storage_url.removeprefix("s3://").partition("/")
    _bundles: dict[str, Any] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": _bucket,
            "location": _prefix,
            "endpoint_url": env.text("IMAGINGX_S3_ENDPOINT_URL") or None,
            "access_key": env.text("IMAGINGX_S3_ACCESS_KEY_ID") or None,
            "secret_key": env.text("IMAGINGX_S3_SECRET_ACCESS_KEY") or None,
        },
    }
else:
    _bundles = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": BUNDLE_DIR},
    }
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
    "bundles": _bundles,
}
if _storage_url:  # what the hosts of one run share
    STORAGES["work"] = {
        "BACKEND": _bundles["BACKEND"],
        "OPTIONS": {**_bundles["OPTIONS"], "location": f"{_prefix}/work".lstrip("/")},
    }

# Sources: where from, how much, how many beside each other (docs/sources.md).
FETCH_NETWORKS = env.networks("IMAGINGX_FETCH_NETWORKS")
FETCH_BYTES = env.integer("IMAGINGX_FETCH_GB", minimum=1) * 10**9
FETCH_PER_HOST = env.integer("IMAGINGX_FETCH_PER_HOST", minimum=1)
FETCH_BYTES_PER_SECOND = env.integer("IMAGINGX_FETCH_MBIT_PER_HOST") * 125_000
FETCH_HOSTS = env.host_limits("IMAGINGX_FETCH_HOSTS")
ZENODO_URL = env.url("IMAGINGX_ZENODO_URL", ("http", "https"))
FIGSHARE_URL = env.url("IMAGINGX_FIGSHARE_URL", ("http", "https"))
IDC_URL = env.url("IMAGINGX_IDC_URL", ("http", "https"))
OPENNEURO_URL = env.url("IMAGINGX_OPENNEURO_URL", ("http", "https"))
MENDELEY_URL = env.url("IMAGINGX_MENDELEY_URL", ("http", "https"))
KAGGLE_URL = env.url("IMAGINGX_KAGGLE_URL", ("http", "https"))
SYNAPSE_URL = env.url("IMAGINGX_SYNAPSE_URL", ("http", "https"))
PHYSIONET_URL = env.url("IMAGINGX_PHYSIONET_URL", ("http", "https"))
S3_URL = env.url("IMAGINGX_S3_URL", ("http", "https"))
# Read from the environment where they are sent; here so that no log line shows them.
ZENODO_TOKEN = env.text("ZENODO_TOKEN")
FIGSHARE_TOKEN = env.text("FIGSHARE_TOKEN")
KAGGLE_API_TOKEN = env.text("KAGGLE_API_TOKEN")
SYNAPSE_AUTH_TOKEN = env.text("SYNAPSE_AUTH_TOKEN")
PHYSIONET_LOGIN = env.text("PHYSIONET_LOGIN")
S3_KEYS = env.text("S3_KEYS")

# Who may read /metrics, /readyz and /status/ besides staff (portal/access.py).
METRICS_TOKEN = env.text("IMAGINGX_METRICS_TOKEN")
HF_TOKEN = env.text("HF_TOKEN")  # read by the Hub's client; here so that no log line shows it
METRICS_NETWORKS = env.networks("IMAGINGX_METRICS_NETWORKS")

# Accounts.
REQUIRE_SIGN_IN = env.flag("IMAGINGX_REQUIRE_SIGN_IN")
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# By OpenID Connect (portal/oidc.py); without an issuer nothing of it is loaded.
OIDC_ISSUER = env.issuer("IMAGINGX_OIDC_ISSUER")
OIDC_CLIENT_ID = env.text("IMAGINGX_OIDC_CLIENT_ID")
OIDC_CLIENT_SECRET = env.text("IMAGINGX_OIDC_CLIENT_SECRET")
OIDC_NAME = env.text("IMAGINGX_OIDC_NAME") or urlsplit(OIDC_ISSUER).hostname or ""
OIDC_CURATOR_GROUP = env.text("IMAGINGX_OIDC_CURATOR_GROUP")
OIDC_GROUPS_CLAIM = env.text("IMAGINGX_OIDC_GROUPS_CLAIM")
LOCAL_SIGN_IN = env.flag("IMAGINGX_LOCAL_SIGN_IN")
env.check_whole(
    ("IMAGINGX_OIDC_ISSUER", "IMAGINGX_OIDC_CLIENT_ID", "IMAGINGX_OIDC_CLIENT_SECRET"),
    ("IMAGINGX_OIDC_NAME", "IMAGINGX_OIDC_CURATOR_GROUP", "IMAGINGX_LOCAL_SIGN_IN"),
)
if OIDC_ISSUER:
    INSTALLED_APPS += [
        "allauth.account",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.openid_connect",
    ]
    MIDDLEWARE.append("allauth.account.middleware.AccountMiddleware")
    AUTHENTICATION_BACKENDS.append("portal.oidc.OidcBackend")
    if not LOCAL_SIGN_IN:
        AUTHENTICATION_BACKENDS.remove("django.contrib.auth.backends.ModelBackend")
    ACCOUNT_ADAPTER = "portal.oidc.Accounts"
    SOCIALACCOUNT_ADAPTER = "portal.oidc.Provider"
    ACCOUNT_EMAIL_VERIFICATION = "none"  # the provider says what it has verified
    ACCOUNT_RATE_LIMITS = False  # of forms that are not there
SESSION_COOKIE_AGE = 14 * 24 * 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Wrong passwords are counted for a name at an address, and for an address (docs/operating.md).
SIGN_IN_ATTEMPTS_PER_ADDRESS = env.integer("IMAGINGX_SIGN_IN_ATTEMPTS_PER_ADDRESS")
AXES_HANDLER = "portal.attempts.Attempts"
AXES_FAILURE_LIMIT = env.integer("IMAGINGX_SIGN_IN_ATTEMPTS")
AXES_ENABLED = AXES_FAILURE_LIMIT > 0
AXES_COOLOFF_TIME = timedelta(minutes=env.integer("IMAGINGX_SIGN_IN_WAIT_MINUTES", minimum=1))
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_LOCKOUT_CALLABLE = "portal.web.account.locked_out"
AXES_CLIENT_IP_CALLABLE = "portal.visitor.address_or_none"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # the wait that was told is not made longer
AXES_DISABLE_ACCESS_LOG = True  # who signs in when, and from where, is kept of failures alone
AXES_VERBOSE = False

# Mail, and other notices of the end of a run (docs/operating.md).
_mail = urlsplit(env.url("IMAGINGX_MAIL_URL", ("smtp", "smtps")))
EMAIL_HOST, EMAIL_USE_SSL = _mail.hostname or "", _mail.scheme == "smtps"
EMAIL_PORT = _mail.port or (465 if EMAIL_USE_SSL else 25)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
EMAIL_USE_TLS = _mail.scheme == "smtp" and "tls=1" in _mail.query.split("&")
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.text("IMAGINGX_MAIL_FROM")
NOTICE_RETRY_SECONDS = 30  # first wait after a notice that did not arrive; doubles

# Web. Proxies: whose word is taken for a visitor's address (portal/visitor.py).
PROXIES = int(env.flag("IMAGINGX_HTTPS"))
if env.text("IMAGINGX_PROXIES"):
    PROXIES = env.integer("IMAGINGX_PROXIES")
PROXY_NETWORKS = env.networks("IMAGINGX_PROXY_NETWORKS")
CONTACT = env.text("IMAGINGX_CONTACT")
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "login", "runs", "home"
STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
WHITENOISE_USE_FINDERS = True
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CSRF_COOKIE_HTTPONLY = True  # forms and scripts take the token from the page
if env.flag("IMAGINGX_HTTPS"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = True
    # Probes and scrapers come from inside, past the proxy that speaks TLS.
    SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# API.
API_RATE = env.rate("IMAGINGX_API_RATE")
API_RATE_USER = env.rate("IMAGINGX_API_RATE_USER")
CORRECTIONS_A_DAY = env.integer("IMAGINGX_CORRECTIONS_A_DAY")
CORS_ALLOWED_ORIGINS = env.words("IMAGINGX_CORS_ORIGINS")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "if-range",
    "range",
]
CORS_EXPOSE_HEADERS = [
    "Content-Range",
    "ETag",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
]
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["portal.api.throttle.RateLimit"],
    "EXCEPTION_HANDLER": "portal.api.errors.handle",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "portal.api.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["portal.api.auth.HasScope"],
    "URL_FORMAT_OVERRIDE": None,  # ?format= is a parameter of ours
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Imaging-X Portal",
    "DESCRIPTION": "Find medical-imaging datasets, fuse compatible ones, download bundles.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.api.schema.finish",
    ],
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "RunState": "workers.models.Run.State",
        "StageState": "workers.models.RunStage.State",
        "NoticeState": "workers.models.RunNotice.State",
        "NoticeKind": "workers.models.RunNotice.Kind",
        "UploadState": "fusion.models.Upload.State",
        "HarvestState": "catalog.models.Harvest.State",
        "HarvestChangeState": "catalog.models.HarvestChange.State",
        "LinkState": "catalog.models.CatalogLink.State",
        "ChangeKind": "catalog.models.ChangeKind",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "workers.logs.OneLine"},
        "json": {"()": "workers.logs.JsonLine"},
    },
    "filters": {"fields": {"()": "workers.logs.AddFields"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": env.one_of("IMAGINGX_LOG_FORMAT", ("line", "json")),
            "filters": ["fields"],
        }
    },
    # One line per request on stderr otherwise.
    "loggers": {
        "elastic_transport": {"level": "WARNING"},
        "httpx2": {"level": "WARNING"},  # signed addresses
        "axes": {"level": "WARNING"},  # a line per sign-in otherwise
    },
    "root": {
        "handlers": ["console"],
        "level": env.one_of("IMAGINGX_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR")),
    },
}
