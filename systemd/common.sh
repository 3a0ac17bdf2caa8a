# Shared by install.sh and uninstall.sh: where things are, and how to ask whether they run. Sourced, not run.
# shellcheck shell=sh disable=SC2034

PATH=$PATH:/usr/sbin:/sbin
PYTHON=${PYTHON:-python3}
prefix=${ORCHESTRATOR_PREFIX:-/opt/orchestrator}
config=${ORCHESTRATOR_CONFIG:-/etc/orchestrator/config.toml}
bin=${ORCHESTRATOR_BIN:-/usr/local/bin/orchestrator}
log=${ORCHESTRATOR_LOG:-/var/log/orchestrator.log}
unit=${ORCHESTRATOR_UNIT:-orchestrator.service}
demo=${ORCHESTRATOR_DEMO-config/examples/demo.yaml}

program=$prefix/venv/bin/orchestrator
unit_file=/etc/systemd/system/$unit
engine_log=/var/log/orchestrator-dockerd.log
engine_socket=/var/run/docker.sock
run_dir=/run/orchestrator

changed=no
restart=no
started_s=$(date +%s)

# say TEXT - one line of progress, with the seconds since the start.
say() {
    printf '[%4d s] %s\n' $(($(date +%s) - started_s)) "$*"
}

# fail CAUSE FIX - ends the script.
fail() {
    printf 'error: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}


# show COMMAND... - runs it, with its output (both kinds) indented, and keeps a copy; its exit code is kept too.
show() {
    scratch=$(mktemp -d)
    {
        code=0
        "$@" 2>&1 || code=$?
        echo "$code" >"$scratch/code"
    } | tee "$scratch/output" | sed 's/^/         /'
    code=$(cat "$scratch/code")
    output=$(cat "$scratch/output")
    rm -r "$scratch"
    return "$code"
}

# wait_until COMMAND SECONDS - false when it is still not true by then.
wait_until() {
    until_s=$(($(date +%s) + $2))
    while ! "$1"; do
        [ "$(date +%s)" -lt "$until_s" ] || return 1
        sleep 0.3
    done
}

has_systemd() {
    [ -d /run/systemd/system ]
}

# Needs the program and the config file.
read_settings() {
    settings=$("$program" config --config "$config" run_dir data_dir write_kubeconfig runtime_endpoint) ||
        fail "the settings in $config can't be used, see above" "correct them and run this again"
    run_dir=$(printf '%s\n' "$settings" | sed -n 1p)
    data_dir=$(printf '%s\n' "$settings" | sed -n 2p)
    kubeconfig=$(printf '%s\n' "$settings" | sed -n 3p)
    endpoint=$(printf '%s\n' "$settings" | sed -n 4p)
    [ -z "$endpoint" ] || engine_socket=${endpoint#unix://}
    pid_file=$run_dir/orchestrator.pid
    engine_pid_file=$run_dir/dockerd.pid
}

engine_answers() {
    [ -S "$engine_socket" ] && command -v curl >/dev/null &&
        [ "$(curl -s -m 5 --unix-socket "$engine_socket" http://localhost/_ping)" = OK ]
}

api_url() {
    sed -n 's/^ *server: //p' "$kubeconfig" 2>/dev/null
}

api_ready() {
    url=$(api_url) && [ -n "$url" ] && curl -fsk -m 5 --noproxy '*' -o /dev/null "$url/readyz" 2>/dev/null
}

# Whether the daemon runs: by its unit, or by the pid file, if that process is ours and not a later one.
daemon_runs() {
    if has_systemd; then
        systemctl is-active --quiet "$unit"
    else
        [ -r "$pid_file" ] && tr '\0' ' ' 2>/dev/null <"/proc/$(cat "$pid_file")/cmdline" | grep -qF "$config"
    fi
}

daemon_stopped() {
    ! daemon_runs
}

# Containers run on.
stop_daemon() {
    if has_systemd; then
        [ ! -e "$unit_file" ] || systemctl stop "$unit"
    elif daemon_runs; then
        kill "$(cat "$pid_file")"
        wait_until daemon_stopped 20 || kill -9 "$(cat "$pid_file")"
    fi
}

last_log() {
    if has_systemd; then
        journalctl -u "$unit" -n 15 --no-pager -o cat 2>/dev/null
    else
        tail -n 15 "$log" 2>/dev/null
    fi
}
