# Two stages over what CI runs too: `make dist` builds the wheel, `make check-dist` installs and starts it.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev make
WORKDIR /src
COPY . .
RUN AIBRIDGE_SPEEDUPS=1 make dist

FROM python:3.11-slim
COPY --from=build /src/dist/*.whl /tmp/
RUN pip install --no-cache-dir /tmp/*.whl && rm /tmp/*.whl \
 && useradd --system --home-dir /var/lib/aibridge --create-home aibridge
USER aibridge
WORKDIR /var/lib/aibridge
# Records are /var/lib/aibridge/aibridge.db. The admin port stays on the container's loopback unless AIBRIDGE_ADMIN_HOST
# says otherwise: nothing on it asks for a key. The data port is reached from outside, so the gateway does not start before
# it is told who may ask: AIBRIDGE_GATEWAY_KEYS=name:key, or AIBRIDGE_AUTH_MODE=open, or a file (CMD serve --config FILE).
ENV AIBRIDGE_HOST=0.0.0.0 AIBRIDGE_PORT=8080 AIBRIDGE_SPEEDUPS=1 XDG_STATE_HOME=/var/lib PYTHONUNBUFFERED=1
VOLUME /var/lib/aibridge
EXPOSE 8080
# Not urllib: it would ask the proxy of http_proxy for 127.0.0.1.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python", "-c", "import http.client, os, sys; \
    port = int(os.environ.get('AIBRIDGE_PORT') or 8080); \
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=2); \
    connection.request('GET', '/healthz'); \
    sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["aibridge"]
CMD ["serve"]
