# One image for every process: the API by default, the worker and the other commands by argument (`worker`, `migrate`).
ARG BASE_IMAGE=python:3.13-slim

# The virtual environment is made here; pip, tools and sources stay behind.
FROM ${BASE_IMAGE} AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# For `strip`, whose version makes no difference.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*

# First what changes least.
COPY requirements/build.txt requirements/server.txt requirements/
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && python -m venv --without-pip /opt/botfarm \
    && /opt/tools/bin/pip --python /opt/botfarm/bin/python install \
        --no-compile --require-hashes --only-binary :all: -r requirements/server.txt

COPY clients/python clients/python
COPY LICENSE README.md pyproject.toml ./
COPY botfarm botfarm
COPY workers workers
COPY migrations migrations
# `pip check`: the lock file holds everything that our two distributions ask for.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels ./clients/python . \
    && /opt/tools/bin/pip --python /opt/botfarm/bin/python install --no-compile --no-index --no-deps wheels/*.whl \
    && /opt/tools/bin/pip --python /opt/botfarm/bin/python check

# A third of it is nothing that runs here: debug symbols, tests, sources of extensions. What the commands import is
# compiled now, because the file system may be read-only later.
WORKDIR /opt/botfarm/lib
RUN find . -name '*.so' -exec strip --strip-unneeded {} + \
    && find . -type d \( -name tests -o -path '*/sqlalchemy/testing' \) -prune -exec rm -rf {} + \
    && find . \( -name '*.py[xi]' -o -name '*.pxd' -o -name '*.h' \) -delete \
    && /opt/botfarm/bin/python -c "import botfarm.cli.after_restore, botfarm.cli.demo, botfarm.cli.keys, botfarm.cli.migrate, \
botfarm.cli.operators, botfarm.cli.serve, botfarm.cli.worker, sqlalchemy.dialects.postgresql.asyncpg, \
uvicorn.protocols.http.httptools_impl, uvloop"


FROM ${BASE_IMAGE}

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="botfarm" \
      org.opencontainers.image.description="Keeps the accounts that end-to-end tests need and leases each one to one test run at a time." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 botfarm \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin botfarm \
    && install --directory --owner 10001 --group 10001 --mode 700 /var/lib/botfarm

COPY --from=builder /opt/botfarm /opt/botfarm

ENV PATH=/opt/botfarm/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BOTFARM_HOST=0.0.0.0 \
    BOTFARM_WORKER_HOST=0.0.0.0 \
    BOTFARM_METRICS_PORT=9090

WORKDIR /
# As numbers: Kubernetes checks `runAsNonRoot` without looking into the image.
USER 10001:10001
# API, the worker's probes and metrics, the API's metrics.
EXPOSE 8000 8001 9090

# Whichever of API and worker runs here. Not urllib, which would ask a proxy of the environment.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys\n\
def is_ready(port):\n\
    process = http.client.HTTPConnection('127.0.0.1', int(port), timeout=4)\n\
    process.request('GET', '/readyz')\n\
    return process.getresponse().status == 200\n\
try:\n\
    ready = is_ready(os.environ.get('BOTFARM_PORT') or 8000)\n\
except ConnectionRefusedError:\n\
    ready = is_ready(os.environ.get('BOTFARM_WORKER_PORT') or 8001)\n\
sys.exit(not ready)"]

ENTRYPOINT ["botfarm"]
CMD ["serve"]
