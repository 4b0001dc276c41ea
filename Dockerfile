# The server as an image: docs/server.md says how to build and run it.
FROM python:3.12-slim AS build
COPY . /src
RUN python -m venv /opt/agelens \
 && cd /src \
 && /opt/agelens/bin/pip install --no-cache-dir '.[serve]' \
 && /opt/agelens/bin/pip uninstall --yes pip

FROM python:3.12-slim
COPY --from=build /opt/agelens /opt/agelens
ENV PATH=/opt/agelens/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["agelens"]
CMD ["serve", "--host", "0.0.0.0"]
