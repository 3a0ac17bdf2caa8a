#!/bin/sh
# Removes what install.sh made and everything that the daemon made on this host: containers, links, routes,
# firewall rules, mounts, files. Usage, as root: sh systemd/uninstall.sh [--purge]
# The data (objects, keys, certificates) stays unless --purge is given. Debian packages stay. Takes the same
# environment as install.sh, and may be run again; ORCHESTRATOR_DATA names the data of an earlier run that kept it.
set -eu
cd "$(dirname "$0")/.."
. systemd/common.sh

purge=""
case "${1:-}" in
    "") ;;
    --purge) purge=--purge ;;
    *) fail "unknown argument $1" "usage: sh systemd/uninstall.sh [--purge]" ;;
esac
[ "$(id -u)" = 0 ] || fail "this needs root" "run it as root, for example: sudo sh systemd/uninstall.sh"

if [ -x "$program" ]; then
    [ -e "$config" ] || fail "$config is gone, so it is unknown what belongs to this installation" \
        "put it back, or copy config/config.toml there, and run this again"
    read_settings
    say "stopping the daemon"
    stop_daemon
    engine_pid=$(cat "$engine_pid_file" 2>/dev/null || true)
    say "removing what it made"
    # shellcheck disable=SC2086  # an absent --purge is no argument
    "$program" cleanup --config "$config" --images $purge || fail "see above" "correct the cause and run this again"
    if [ -n "$engine_pid" ] && grep -q dockerd "/proc/$engine_pid/comm" 2>/dev/null; then
        say "stopping the Docker engine that install.sh had started (its own bridge and rules stay until a restart)"
        kill "$engine_pid"
        rm -f "$engine_log"
    fi
else
    say "there is no program in $prefix: removing what is left of the installation"
    data_dir=${ORCHESTRATOR_DATA:-/var/lib/orchestrator}
    # Data kept by an earlier run. The file says that it is ours.
    if [ -n "$purge" ] && [ -e "$data_dir/instance" ]; then
        rm -rf "$data_dir"
    fi
fi

say "removing program, config and log"
if has_systemd && [ -e "$unit_file" ]; then
    systemctl disable --quiet "$unit"
    rm -f "$unit_file"
    systemctl daemon-reload
fi
if [ "$(readlink "$bin" 2>/dev/null)" = "$program" ]; then
    rm -f "$bin"
fi
rm -rf "$prefix"
rm -f "$log" "$config"
rmdir "$(dirname "$config")" 2>/dev/null || true
if [ ! -e "$data_dir" ]; then
    say "done: nothing is left"
else
    say "done: only the data is left, in $data_dir (sh systemd/uninstall.sh --purge removes it too)"
fi
