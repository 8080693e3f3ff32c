# The production image. It needs SECRET_KEY, PUBLIC_URL, REDIS_URL and DATABASE_URL at start, and says so when one
# is missing. Once before a new version serves: `quartet db upgrade` in the same image.

FROM python:3.13-slim AS build
WORKDIR /srv/quartet
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
ENV PIP_NO_CACHE_DIR=1
# Before the code, so that a change of the code does not install all of this again.
COPY .ci/install .ci/install
COPY requirements.lock requirements-build.lock ./
RUN .ci/install python requirements.lock
COPY pyproject.toml README.md LICENSE hypercorn.toml ./
COPY app app
# In place, because hypercorn.toml lies beside `app`.
RUN .ci/install python requirements.lock . && python -m compileall -q app

FROM python:3.13-slim
# The user may write nothing but `var`, where a SQLite file goes if DATABASE_URL names no server.
RUN useradd --system --uid 10001 --user-group --home-dir /srv/quartet quartet \
    && install -d -o quartet -g quartet /srv/quartet/var
WORKDIR /srv/quartet
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/quartet ./
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    BIND=0.0.0.0:8000
USER quartet
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["quartet", "serve"]
