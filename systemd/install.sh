#!/bin/sh
# Makes this host a cluster of one node and runs the demo on it. Usage, as root: sh systemd/install.sh
# Installs what is missing and nothing else; run again, it changes nothing and says so.
#
# Paths can be chosen through the environment, for a second cluster on the host or for tests (give it a config
# file of its own, with other directories, ports and address ranges):
#   ORCHESTRATOR_PREFIX    /opt/orchestrator              holds the virtual environment
#   ORCHESTRATOR_CONFIG    /etc/orchestrator/config.toml  settings; written with the defaults where absent
#   ORCHESTRATOR_BIN       /usr/local/bin/orchestrator    link to the command
#   ORCHESTRATOR_LOG       /var/log/orchestrator.log      the daemon's log where there is no systemd
#   ORCHESTRATOR_UNIT      orchestrator.service           name of the unit where there is systemd
#   ORCHESTRATOR_DEMO      config/examples/demo.yaml      what to run in the end; empty for nothing
#   PYTHON                 python3                        Python 3.11 or later
set -eu
cd "$(dirname "$0")/.."
. systemd/common.sh

TIMEOUT_S=120

main() {
    check_host
    install_packages
    install_program
    install_config
    start_engine
    start_daemon
    run_demo
    if [ "$changed" = no ]; then
        say "nothing changed: everything was installed and running already"
    else
        say "done. Remove it with: sh systemd/uninstall.sh"
    fi
}

check_host() {
    [ "$(id -u)" = 0 ] || fail "this needs root: it sets up links, firewall rules and a service" \
        "run it as root, for example: sudo sh systemd/install.sh"
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s)" "use a Linux host"
}

# Programs that the system needs, and the Debian packages that bring them.
install_packages() {
    missing_packages=""
    for pair in dockerd:docker.io containerd:containerd runc:runc nft:nftables iptables:iptables \
                conntrack:conntrack ip:iproute2 curl:curl "$PYTHON":python3; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing_packages="$missing_packages ${pair##*:}"
    done
    has_static_busybox || missing_packages="$missing_packages busybox-static"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing_packages="$missing_packages python3-venv"
    # An engine that answers is good enough, whoever installed it.
    if engine_answers; then
        missing_packages=$(printf '%s' "$missing_packages" | sed 's/ docker\.io//; s/ containerd//; s/ runc//')
    fi
    if [ -z "$missing_packages" ]; then
        say "packages: all installed"
        return
    fi
    command -v apt-get >/dev/null || fail "these are missing:$missing_packages, and there is no apt-get" \
        "install them with this system's package manager and run this again"
    say "packages: installing$missing_packages"
    changed=yes
    show apt-get update -qq || fail "apt-get update failed, see above" "correct the package sources and run this again"
    # shellcheck disable=SC2086  # the list is meant to be split
    show env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing_packages ||
        fail "installing$missing_packages failed, see above" "correct it and run this again"
}

# Another package's busybox may need libraries, which the demo's image does not have.
has_static_busybox() {
    if command -v dpkg-query >/dev/null; then
        dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q 'ok installed'
    else
        [ -x /bin/busybox ]
    fi
}

install_program() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$PYTHON" -V) is too old" "install Python 3.11 or later and name it: PYTHON=python3.11 sh $0"
    sources=$(find orchestrator config pyproject.toml hatch_build.py -type f \
        ! -name '*.pyc' ! -name schemas.bin ! -path '*_cache/*' -exec sha256sum {} + | sort | sha256sum)
    if [ -x "$program" ] && [ "$(cat "$prefix/sources" 2>/dev/null)" = "$sources" ]; then
        say "program: $program is up to date"
    else
        say "program: installing into $prefix/venv"
        changed=yes
        restart=yes
        mkdir -p "$prefix"
        [ -x "$prefix/venv/bin/python" ] || "$PYTHON" -m venv "$prefix/venv" ||
            fail "the virtual environment could not be made, see above" "install python3-venv and run this again"
        show install_with_pip ||
            fail "pip could not install the program, see above" \
                "check the way to the Python package index (PIP_INDEX_URL, proxies) and run this again"
        printf '%s\n' "$sources" >"$prefix/sources"
    fi
    if [ "$(readlink "$bin" 2>/dev/null)" != "$program" ]; then
        if [ -e "$bin" ] && [ ! -L "$bin" ]; then
            fail "$bin exists and is not ours" "move it away, or choose another with ORCHESTRATOR_BIN"
        fi
        changed=yes
        mkdir -p "$(dirname "$bin")"
        ln -sfn "$program" "$bin"
    fi
}

install_config() {
    if [ ! -e "$config" ]; then
        say "config: writing the defaults to $config"
        changed=yes
        mkdir -p "$(dirname "$config")"
        cp config/config.toml "$config"
    fi
    read_settings
}

# One line per package is progress enough.
install_with_pip() {
    rm -f "$prefix/installed"
    {
        "$prefix/venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --upgrade . 2>&1 &&
            touch "$prefix/installed"
    } | sed -nE 's/^ *(Collecting|Building wheel for|Installing collected) ([^ ]*).*/\1 \2/p; /^(ERROR|error)/p'
    [ -e "$prefix/installed" ] && "$program" --version
}

# The engine's socket answers, or it is started: by systemd, or here with a pid file.
start_engine() {
    if engine_answers; then
        say "engine: Docker answers at $engine_socket"
        return
    fi
    changed=yes
    if has_systemd; then
        say "engine: starting docker.service"
        systemctl enable --quiet --now docker.service ||
            fail "docker.service does not start: $(journalctl -u docker -n 5 --no-pager -o cat)" \
                "look at: journalctl -u docker"
    else
        say "engine: starting dockerd, log in $engine_log"
        mkdir -p "$run_dir"
        setsid nohup dockerd --live-restore --pidfile "$engine_pid_file" --host "unix://$engine_socket" \
            >>"$engine_log" 2>&1 </dev/null &
    fi
    wait_until engine_answers 60 || fail "the Docker engine does not answer after 60 s.
$(tail -n 15 "$engine_log" 2>/dev/null || journalctl -u docker -n 15 --no-pager -o cat)" \
        "correct what its log says above and run this again"
}

start_daemon() {
    if has_systemd; then
        start_by_systemd
    else
        start_in_background
    fi
    wait_until ready_or_dead "$TIMEOUT_S" || fail "the API is not ready after $TIMEOUT_S s.
$(last_log)" "correct what its log says above and run this again"
    api_ready || fail "the daemon has ended.
$(last_log)" "correct what its log says above and run this again"
    say "daemon: the API is ready at $(api_url)"
}

ready_or_dead() {
    api_ready || ! daemon_runs
}

start_by_systemd() {
    wanted=$(sed "s|/opt/orchestrator/venv/bin/orchestrator|$program|; s|/etc/orchestrator/config.toml|$config|" \
        systemd/orchestrator.service)
    if [ "$(cat "$unit_file" 2>/dev/null)" != "$wanted" ]; then
        changed=yes
        restart=yes
        printf '%s\n' "$wanted" >"$unit_file"
        systemctl daemon-reload
    fi
    systemctl enable --quiet "$unit"
    if systemctl is-active --quiet "$unit" && [ "$restart" = no ]; then
        say "daemon: $unit runs"
        return
    fi
    say "daemon: starting $unit"
    changed=yes
    systemctl restart "$unit" || fail "$unit does not start.
$(last_log)" "correct what its log says above; more in: journalctl -u $unit"
}

start_in_background() {
    if daemon_runs && [ "$restart" = no ]; then
        say "daemon: runs with pid $(cat "$pid_file")"
        return
    fi
    changed=yes
    stop_daemon
    say "daemon: starting in the background, log in $log"
    mkdir -p "$run_dir" "$(dirname "$log")"
    setsid nohup "$program" server --config "$config" >>"$log" 2>&1 </dev/null &
    echo $! >"$pid_file"
}

run_demo() {
    [ -n "$demo" ] || return 0
    say "demo: $demo"
    code=0
    show "$program" demo --config "$config" --apply "$demo" --timeout "$TIMEOUT_S" || code=$?
    if printf '%s' "$output" | grep -Eq ': (created|configured|built from)'; then
        changed=yes
    fi
    [ "$code" = 0 ] || fail "the demo does not run, see above. The daemon's last words:
$(last_log)" "correct what is said above and run this again"
}

main "$@"
