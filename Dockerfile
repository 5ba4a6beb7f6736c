# One image for every process: the API by default, the worker and the other commands by argument (`worker`, `migrate`).
ARG BASE_IMAGE=python:3.13-slim

# The virtual environment is made here; pip and the sources stay behind.
FROM ${BASE_IMAGE} AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# First what changes least.
COPY requirements/server.txt requirements/
RUN python -m venv --without-pip /opt/botfarm \
    && pip --python /opt/botfarm/bin/python install --require-hashes --only-binary :all: -r requirements/server.txt

COPY clients/python clients/python
COPY LICENSE README.md pyproject.toml ./
COPY botfarm botfarm
COPY workers workers
COPY migrations migrations
# `pip check`: the lock file holds everything that our two distributions ask for.
RUN pip wheel --no-deps --wheel-dir wheels ./clients/python . \
    && pip --python /opt/botfarm/bin/python install --no-index --no-deps wheels/*.whl \
    && pip --python /opt/botfarm/bin/python check


FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="botfarm" \
      org.opencontainers.image.description="Keeps the accounts that end-to-end tests need and leases each one to one test run at a time." \
      org.opencontainers.image.licenses="Apache-2.0"

RUN groupadd --gid 10001 botfarm \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin botfarm

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

# For `serve`; a worker's check asks port 8001. Not urllib, which would ask a proxy of the environment.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
api = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('BOTFARM_PORT') or 8000), timeout=4); \
api.request('GET', '/readyz'); \
sys.exit(api.getresponse().status != 200)"]

ENTRYPOINT ["botfarm"]
CMD ["serve"]
