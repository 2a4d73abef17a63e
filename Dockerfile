FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /site

COPY pyproject.toml README.md LICENSE ./
COPY async_signals ./async_signals
RUN pip install --no-cache-dir ".[demo]"

COPY demo_project ./demo_project
WORKDIR /site/demo_project
RUN useradd --create-home site
USER site
