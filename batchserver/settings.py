"""Every setting of the server, read once from the environment (or `.env`), with its default.

A secret can also come from a file: `NAME_FILE=/run/secrets/name`. Nonsense is refused by `batchserver.checks`.
"""

import socket
from pathlib import Path

import django_stubs_ext
import environ
from django.templatetags.static import static
from django.urls import reverse_lazy

from batchserver import embedded
from batchserver.secrets import file_secret

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()
env.read_env(BASE_DIR / ".env")

# Where state lives. Deleting VAR_DIR is a clean start.
VAR_DIR: Path = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).absolute()
FILES_DIR: Path = Path(env.str("FILES_DIR", default=str(VAR_DIR / "files")))
MODELS_DIR: Path = Path(env.str("MODELS_DIR", default=str(VAR_DIR / "models")))
TRAINING_DIR: Path = Path(env.str("TRAINING_DIR", default=str(VAR_DIR / "training")))
LOG_DIR: Path = VAR_DIR / "log"
RUN_DIR: Path = embedded.run_dir(VAR_DIR)

DEBUG: bool = env.bool("DEBUG", default=False)
SECRET_KEY: str = env.str("SECRET_KEY", default="") or file_secret(VAR_DIR / "secrets" / "django")
# The first encrypts what must be kept secret (tokens of other services), all of them decrypt: rotate by prepending.
ENCRYPTION_KEYS: list[str] = env.list("ENCRYPTION_KEYS", default=[]) or [file_secret(VAR_DIR / "secrets/encryption")]
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", socket.gethostname()])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Ports and addresses. The API and the web pages are one process and may share a port.
BIND_ADDRESS: str = env.str("BIND_ADDRESS", default="127.0.0.1")
API_PORT: int = env.int("API_PORT", default=4080)
WEB_PORT: int = env.int("WEB_PORT", default=8001)

# What one connection may cost the web process before it has shown a key.
WEB_MAX_CONNECTIONS: int = env.int("WEB_MAX_CONNECTIONS", default=2_000)  # then the least useful one makes room
WEB_HEAD_SECONDS: int = env.int("WEB_HEAD_SECONDS", default=10)  # for a request's head
WEB_BODY_BYTES_PER_SECOND: int = env.int("WEB_BODY_BYTES_PER_SECOND", default=1_000)  # of a body, at least …
WEB_BODY_SECONDS: int = env.int("WEB_BODY_SECONDS", default=20)  # … over each so many seconds
WEB_SEND_SECONDS: int = env.int("WEB_SEND_SECONDS", default=600)  # in which a client takes nothing of an answer
WEB_ANONYMOUS_BYTES: int = env.int("WEB_ANONYMOUS_BYTES", default=64 * 1024)  # of a body without key or login

# The embedded servers serve where no real ones are named.
EMBEDDED_POSTGRES: bool = not env.str("DATABASE_URL", default="")
EMBEDDED_VALKEY: bool = not env.str("REDIS_URL", default="")
DATABASE_URL: str = env.str("DATABASE_URL", default="") or embedded.database_url(VAR_DIR)
REDIS_URL: str = env.str("REDIS_URL", default="") or embedded.redis_url(VAR_DIR)

# The GPUs. A slot is one worker with one engine at a time: "0", "0,1" (two GPUs together) or "cpu".
GPU_SLOTS: list[str] = env.str("GPU_SLOTS", default="").split(";") if env.str("GPU_SLOTS", default="") else []
ENGINE_PYTHON: Path = Path(env.str("ENGINE_PYTHON", default=str(BASE_DIR / "var/venv/engine/bin/python")))
TRAINER_PYTHON: Path = Path(env.str("TRAINER_PYTHON", default=str(BASE_DIR / "var/venv/trainer/bin/python")))
ENGINE_START_SECONDS: int = env.int("ENGINE_START_SECONDS", default=600)
ENGINE_CONCURRENCY: int = env.int("ENGINE_CONCURRENCY", default=0)  # requests in flight; 0: 64 on a CPU, 256 on a GPU
ENGINE_KV_CACHE_GIB: int = env.int("ENGINE_KV_CACHE_GIB", default=2)  # of a CPU engine
ADAPTER_SPARE_SLOTS: int = env.int("ADAPTER_SPARE_SLOTS", default=1)  # for adapters to come, of a model that has some …
ADAPTER_SPARE_RANK: int = env.int("ADAPTER_SPARE_RANK", default=16)  # … and their rank: a higher one restarts it
MODEL_QUANTUM_SECONDS: int = env.int("MODEL_QUANTUM_SECONDS", default=300)
MODEL_STALENESS_SECONDS: int = env.int("MODEL_STALENESS_SECONDS", default=3600)  # for a job's first turn, at most
SLEEP_MEMORY_GIB: int = env.int("SLEEP_MEMORY_GIB", default=0)  # for sleeping engines; 0: half of the machine's memory

# People who wait: interactive requests.
INTERACTIVE_SEATS: int = env.int("INTERACTIVE_SEATS", default=16)  # of an engine, which a batch leaves free
INTERACTIVE_MAX_BYTES: int = env.int("INTERACTIVE_MAX_BYTES", default=8 * 1024**2)  # of a request; images are in it
INTERACTIVE_WAIT_SECONDS: int = env.int("INTERACTIVE_WAIT_SECONDS", default=120)  # for a model that has to be loaded
INTERACTIVE_LINGER_SECONDS: int = env.int("INTERACTIVE_LINGER_SECONDS", default=20)  # a model stays after the last one

# Datasets.
DATASET_MAX_ROWS: int = env.int("DATASET_MAX_ROWS", default=1_000_000)  # of one import
DATASET_ROW_MAX_BYTES: int = env.int("DATASET_ROW_MAX_BYTES", default=8 * 1024**2)
GPU_HOUR_COST: float = env.float("GPU_HOUR_COST", default=0.0)  # of one slot, for estimates; 0: no cost is shown
CURRENCY: str = env.str("CURRENCY", default="USD")

# Fine-tuning.
TRAINING_MIN_EXAMPLES: int = env.int("TRAINING_MIN_EXAMPLES", default=10)  # of a training file; OpenAI's minimum
TRAINING_MAX_ROWS: int = env.int("TRAINING_MAX_ROWS", default=1_000_000)  # of a training file
TRAINING_DISK_RESERVE_BYTES: int = env.int("TRAINING_DISK_RESERVE_BYTES", default=1024**3)  # stays free after a save

# Where models come from.
HF_ENDPOINT: str = env.str("HF_ENDPOINT", default="https://huggingface.co")
MODEL_MAX_BYTES: int = env.int("MODEL_MAX_BYTES", default=500 * 1024**3)
MODEL_DISK_RESERVE_BYTES: int = env.int("MODEL_DISK_RESERVE_BYTES", default=2 * 1024**3)  # stays free after a download
# Fewer bytes a second than this, for MODEL_STALL_SECONDS, are a stall too.
MODEL_MIN_BYTES_PER_SECOND: int = env.int("MODEL_MIN_BYTES_PER_SECOND", default=10_000)
MODEL_STALL_SECONDS: int = env.int("MODEL_STALL_SECONDS", default=60)  # without a byte, until a new process goes on

# Limits of the OpenAI contract. Raise them as your hardware allows.
FILE_MAX_BYTES: int = env.int("FILE_MAX_BYTES", default=512 * 1024**2)
UPLOAD_MAX_BYTES: int = env.int("UPLOAD_MAX_BYTES", default=8 * 1024**3)  # of a file that comes in parts
UPLOAD_PART_MAX_BYTES: int = env.int("UPLOAD_PART_MAX_BYTES", default=64 * 1024**2)
UPLOAD_SECONDS: int = env.int("UPLOAD_SECONDS", default=3600)  # from its creation until it must be complete
UPLOADS_PENDING: int = env.int("UPLOADS_PENDING", default=100)  # of a project at a time
BATCH_FILE_MAX_BYTES: int = env.int("BATCH_FILE_MAX_BYTES", default=200 * 1024**2)
BATCH_MAX_REQUESTS: int = env.int("BATCH_MAX_REQUESTS", default=50_000)
BATCH_MAX_EMBEDDING_INPUTS: int = env.int("BATCH_MAX_EMBEDDING_INPUTS", default=50_000)
BATCH_LINE_MAX_BYTES: int = env.int("BATCH_LINE_MAX_BYTES", default=8 * 1024**2)
BATCH_FILE_DAYS: int = env.int("BATCH_FILE_DAYS", default=30)
BATCH_SHARD_LINES: int = env.int("BATCH_SHARD_LINES", default=1000)
BATCH_CUSTOM_ID_MAX_CHARACTERS: int = env.int("BATCH_CUSTOM_ID_MAX_CHARACTERS", default=1024)

# Bounds of a single request: one can take an engine down for everybody. `n` multiplies memory (CVE-2026-34756), a
# grammar is compiled before the first token.
REQUEST_MAX_N: int = env.int("REQUEST_MAX_N", default=128)  # answers to one request
REQUEST_MAX_LOGPROBS: int = env.int("REQUEST_MAX_LOGPROBS", default=20)  # a token; vLLM's own bound
REQUEST_MAX_TOKENS: int = env.int("REQUEST_MAX_TOKENS", default=1_000_000)  # of an answer
REQUEST_MAX_STOP: int = env.int("REQUEST_MAX_STOP", default=16)  # strings
REQUEST_MAX_STOP_CHARACTERS: int = env.int("REQUEST_MAX_STOP_CHARACTERS", default=1_000)  # of each
REQUEST_MAX_LOGIT_BIAS: int = env.int("REQUEST_MAX_LOGIT_BIAS", default=1_024)  # tokens
REQUEST_MAX_GRAMMAR_BYTES: int = env.int("REQUEST_MAX_GRAMMAR_BYTES", default=64 * 1024)  # of schema, regex, choices
# What becomes of fields that the engine does not know: "refuse" (as OpenAI does), or "warn" and pass them on.
REQUEST_UNKNOWN_FIELDS: str = env.str("REQUEST_UNKNOWN_FIELDS", default="refuse")

REQUEST_ATTEMPTS: int = env.int("REQUEST_ATTEMPTS", default=5)
REQUEST_TIMEOUT_SECONDS: int = env.int("REQUEST_TIMEOUT_SECONDS", default=600)

# Work in the background.
WORK_ATTEMPTS: int = env.int("WORK_ATTEMPTS", default=5)  # of a row; then it ends as failed, with the error

INSTALLED_APPS = [
    "batchserver",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin.apps.SimpleAdminConfig",  # urls.py finds the pages: workers need none
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "apps.core",
    "apps.accounts",
    "apps.events",
    "apps.models",
    "apps.batches",
    "apps.datasets",
    "apps.training",
]

MIDDLEWARE = [
    "apps.core.api.request_id.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "batchserver.urls"
ASGI_APPLICATION = "batchserver.asgi.application"
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

# Health checks make a restarted PostgreSQL cost no failed request. Without a short reconnect_timeout the pool's
# back-off grows while PostgreSQL is away, and goes on long after it is back; without tcp_user_timeout (milliseconds) a
# server that vanished from the network is waited for much longer.
_pool = {"min_size": 1, "max_size": 16, "timeout": 5, "reconnect_timeout": 5}
_database = environ.Env.db_url_config(DATABASE_URL)
DATABASES = {
    "default": {
        **_database,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "tcp_user_timeout": 15_000,
            # A process that was stopped within a transaction holds its locks no longer than its leases.
            "options": "-c idle_in_transaction_session_timeout=10s",
            **_database.get("OPTIONS", {}),
            "pool": _pool,
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "batchserver"},
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apps.accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.core.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "vLLM Batch Server",
    "DESCRIPTION": "OpenAI-compatible batches on your own GPUs.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/v1",
    "COMPONENT_SPLIT_REQUEST": True,  # or an upload's file would be described as an address
    "POSTPROCESSING_HOOKS": [],  # enums stay where they are used: nobody has to name them
}

# Uploads spool next to where files are kept, so that the last step is a rename.
FILE_UPLOAD_TEMP_DIR = FILES_DIR / "incoming"
FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
FILE_UPLOAD_HANDLERS = ["apps.core.api.parsers.HashingUploadHandler"]
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(FILES_DIR)},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

HTTPS: bool = env.bool("HTTPS", default=False)  # set behind a proxy that speaks TLS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {  # doorbells, sockets that come and go, and clients' mistakes are no news
        **{name: {"level": "WARNING"} for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat")},
        "uvicorn.error": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
    }
    | {"channels_redis": {"level": "CRITICAL"}},  # a traceback every second while Redis is away; pages read on
}

UNFOLD = {
    "SITE_TITLE": "vLLM Batch Server",
    "SITE_HEADER": "Batch Server",
    "SITE_SUBHEADER": "vLLM on your own hardware",
    "SITE_URL": "/",
    "SITE_ICON": lambda _request: static("img/mark.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("img/mark.svg")}],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda _request: static("css/admin.css")],
    "SCRIPTS": [
        lambda _request: static("js/progress.js"),
        lambda _request: static("js/site.js"),
        lambda _request: static("js/models.js"),
    ],
    "DASHBOARD_CALLBACK": "batchserver.dashboard.dashboard",
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 265)",
            "100": "oklch(93.5% .03 265)",
            "200": "oklch(88% .06 266)",
            "300": "oklch(80% .105 267)",
            "400": "oklch(71% .15 268)",
            "500": "oklch(61% .19 269)",
            "600": "oklch(53% .215 270)",
            "700": "oklch(46% .2 271)",
            "800": "oklch(39% .165 272)",
            "900": "oklch(34% .13 273)",
            "950": "oklch(26% .1 274)",
        }
    },
    "SIDEBAR": {
        "navigation": [
            {
                "title": "Work",
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    {"title": "Batches", "icon": "stacks", "link": reverse_lazy("admin:batches_batch_changelist")},
                    {"title": "Files", "icon": "draft", "link": reverse_lazy("admin:batches_file_changelist")},
                    {"title": "Uploads", "icon": "upload", "link": reverse_lazy("admin:batches_upload_changelist")},
                ],
            },
            {
                "title": "Datasets",
                "items": [
                    {
                        "title": "Datasets",
                        "icon": "database",
                        "link": reverse_lazy("admin:datasets_dataset_changelist"),
                    },
                    {"title": "Runs", "icon": "grid_on", "link": reverse_lazy("admin:datasets_run_changelist")},
                    {"title": "Exports", "icon": "ios_share", "link": reverse_lazy("admin:datasets_export_changelist")},
                ],
            },
            {
                "title": "Fine-tuning",
                "items": [
                    {"title": "Jobs", "icon": "school", "link": reverse_lazy("admin:training_trainingjob_changelist")},
                    {
                        "title": "Deployments",
                        "icon": "rocket_launch",
                        "link": reverse_lazy("admin:training_deployment_changelist"),
                    },
                ],
            },
            {
                "title": "Models",
                "items": [
                    {"title": "Models", "icon": "neurology", "link": reverse_lazy("admin:models_model_changelist")},
                    {"title": "Installs", "icon": "download", "link": reverse_lazy("admin:models_install_changelist")},
                    {"title": "Playground", "icon": "forum", "link": reverse_lazy("admin:models_playground")},
                    {
                        "title": "Examples",
                        "icon": "bookmark",
                        "link": reverse_lazy("admin:models_exampleset_changelist"),
                    },
                    {"title": "Benchmarks", "icon": "speed", "link": reverse_lazy("admin:models_benchmark_changelist")},
                    {
                        "title": "Engines",
                        "icon": "memory",
                        "link": reverse_lazy("admin:models_engine_changelist"),
                        "permission": lambda request: request.user.is_superuser,
                    },
                    {
                        "title": "Crashes",
                        "icon": "heart_broken",
                        "link": reverse_lazy("admin:models_enginedeath_changelist"),
                    },
                ],
            },
            {
                "title": "Access",
                "items": [
                    {
                        "title": "Projects",
                        "icon": "workspaces",
                        "link": reverse_lazy("admin:accounts_project_changelist"),
                    },
                    {"title": "API keys", "icon": "key", "link": reverse_lazy("admin:accounts_apikey_changelist")},
                    {
                        "title": "Users",
                        "icon": "person",
                        "link": reverse_lazy("admin:auth_user_changelist"),
                        "permission": lambda request: request.user.is_superuser,
                    },
                    {
                        "title": "Groups",
                        "icon": "group",
                        "link": reverse_lazy("admin:auth_group_changelist"),
                        "permission": lambda request: request.user.is_superuser,
                    },
                ],
            },
            {
                "title": "System",
                "items": [
                    {"title": "Events", "icon": "bolt", "link": reverse_lazy("admin:events_event_changelist")},
                    {"title": "API reference", "icon": "api", "link": reverse_lazy("docs")},
                ],
            },
        ],
    },
}
