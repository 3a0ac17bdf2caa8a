#!/bin/sh
# Installs what the tests need and runs them all. Usage: sh tests/run.sh [pytest arguments]
# Debian packages are installed when root and missing; without root the tests that need them are skipped.
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

missing=""
for pair in dockerd:docker.io nft:nftables iptables:iptables conntrack:conntrack busybox:busybox-static ip:iproute2 \
            curl:curl openssl:openssl etcd:etcd-server etcdctl:etcd-client; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair#*:}"
done
dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q 'ok installed' || missing="$missing busybox-static"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian packages:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # the list is meant to be split
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing python3-venv >/dev/null
fi

python=${PYTHON:-python3}
venv=${ORCHESTRATOR_TEST_VENV:-.venv}
if [ ! -x "$venv/bin/python" ]; then
    say "making a virtual environment in $venv"
    "$python" -m venv "$venv"
fi
stamp="$venv/.installed"
if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ hatch_build.py -nt "$stamp" ] \
   || [ ! -f orchestrator/api/schemas.bin ]; then
    say "installing the package and its test dependencies"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]'
    touch "$stamp"
fi

if [ $# -gt 0 ]; then
    exec "$venv/bin/python" -m pytest "$@"
fi
say "style and types"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/mypy"
say "tests"
# Two at a time: those on the host mostly wait, the others mostly compute.
exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadgroup --durations=15
