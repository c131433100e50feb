FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 999 --home-dir /data --create-home flotilla
WORKDIR /app
COPY requirements.lock .
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE manage.py ./
COPY hub hub
COPY projects projects
COPY clusters clusters
COPY appsets appsets
COPY templates templates
RUN pip install --no-cache-dir --no-deps .
ENV HUB_DATA_DIR=/data HUB_MODE=production PYTHONUNBUFFERED=1
USER flotilla
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
CMD ["uvicorn", "hub.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--lifespan", "off", "--proxy-headers", "--http", "h11", "--h11-max-incomplete-event-size", "65536", "--ws-max-size", "65536"]
