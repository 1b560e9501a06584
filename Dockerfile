# Two stages: the first has a compiler, the second what it made and no more. Tried as docs/deployment.md says.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/aibridge \
 && AIBRIDGE_SPEEDUPS=1 /opt/aibridge/bin/pip install --no-cache-dir '.[mcp,otlp]' \
 && /opt/aibridge/bin/pip uninstall --yes setuptools pip
# Of AWS's services only those that give credentials are spoken to through botocore: the others' models are 28 MB.
RUN find /opt/aibridge/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && find /opt/aibridge -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE}
RUN useradd --system --uid 10001 --home-dir /var/lib/aibridge --create-home aibridge
COPY --from=build /opt/aibridge /opt/aibridge
USER 10001
WORKDIR /var/lib/aibridge
# Records are /var/lib/aibridge/aibridge.db; nothing else is written, so that the root may be read-only. The admin port
# stays on the container's loopback unless AIBRIDGE_ADMIN_HOST says otherwise. The data port is reached from outside, so the
# gateway does not start before it is told who may ask: AIBRIDGE_GATEWAY_KEYS=name:key, or AIBRIDGE_AUTH_MODE=open, or a
# file (CMD serve --config FILE).
ENV PATH=/opt/aibridge/bin:$PATH AIBRIDGE_HOST=0.0.0.0 AIBRIDGE_PORT=8080 AIBRIDGE_SPEEDUPS=1 XDG_STATE_HOME=/var/lib \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
VOLUME /var/lib/aibridge
EXPOSE 8080
# Not urllib: it would ask the proxy of http_proxy for 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python3", "-c", "import http.client, os, sys; \
    port = int(os.environ.get('AIBRIDGE_PORT') or 8080); \
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=2); \
    connection.request('GET', '/healthz'); \
    sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["aibridge"]
CMD ["serve"]
