# tallymark serve as a container (docs/howto/run-in-production.md). Its RUN lines are run by tests/acceptance/test_packaging.py.
FROM python:3.13-slim

WORKDIR /opt/tallymark
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY scripts/install-release scripts/install-release
COPY src src
RUN scripts/install-release
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/tallymark

# Nobody in particular, who may write the ledger and nothing else.
USER 10001:10001
WORKDIR /var/lib/tallymark
VOLUME /var/lib/tallymark
ENV HOME=/var/lib/tallymark BILLING_LEDGER_URL=sqlite:////var/lib/tallymark/ledger.sqlite3
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
# BILLING_API_TOKEN is needed to listen beyond the container.
CMD ["tallymark", "serve", "--host", "0.0.0.0", "--verbose"]
