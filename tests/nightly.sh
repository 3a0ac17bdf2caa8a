#!/bin/sh
# The long campaigns that CI only samples: crash points, failing disks, kills, flipped bits, cut logs, random programs, every kubectl.
# Usage: sh tests/nightly.sh [MINUTES]   at most so long for each of the campaigns (60); they stop earlier when all is done.
# Everything is drawn from STORE_TEST_SEED (default: the time), which is printed. Exits 1 when anything went wrong.
# Run tests/run.sh once before: it makes the virtual environment.
set -u
cd "$(dirname "$0")/.."

minutes=${1:-60}
seconds=$((minutes * 60))
seed=${STORE_TEST_SEED:-$(date +%s)}
python=${ORCHESTRATOR_TEST_VENV:-.venv}/bin/python
saved=${TMPDIR:-/tmp}/orchestrator-nightly-$seed
failed=""

say() { printf '\n== %s  %s\n' "$(date -u +%H:%M:%S)" "$*"; }

run() { # name, then a command
    name=$1
    shift
    say "$name: $*"
    "$@" || failed="$failed $name"
}

campaign() { # name, then options
    name=$1
    shift
    run "$name" "$python" -m tests.store.campaign "$name" --seed "$seed" --seconds "$seconds" --save "$saved" "$@"
}

say "seed $seed, at most $minutes minutes each; disks that a store did not come back from are kept in $saved"
campaign crashes --rounds 25
campaign faults --rounds 12
campaign kills --count 5000
campaign bits
campaign cuts
run programs env HYPOTHESIS_PROFILE=random STORE_TEST_PROGRAMS="$((minutes * 30))" \
    "$python" -m pytest -q -p no:cacheprovider --hypothesis-seed "$seed" tests/contract/test_store_model.py

run matrix env MATRIX=all "$python" -m pytest -q -p no:cacheprovider tests/e2e/test_matrix.py

run scheduler env SCHEDULER_TEST_SEED="$seed" SCHEDULER_TEST_DECISIONS="$((minutes * 16700))" \
    SCHEDULER_TEST_CHURN="$((minutes * 16700))" "$python" -m pytest -q -p no:cacheprovider tests/unit/scheduler/test_oracle.py

run leaks env AGENT_TEST_SEED="$seed" AGENT_TEST_CYCLES="$((minutes * 1700))" \
    "$python" -m pytest -q -p no:cacheprovider tests/unit/agent/pods/test_leaks.py
run node env AGENT_TEST_SEED="$seed" FAULT_ENGINES=containerd,docker-live-restore,docker \
    FAULT_ROUNDS="$minutes" "$python" -m pytest -q -p no:cacheprovider tests/e2e/test_faults.py

tools="$saved-tools"
"$python" -m pip install --quiet --target "$tools" "schemathesis>=4" \
    && run openapi env PYTHONPATH="$tools" "$python" -m tests.fuzz.openapi --seconds "$seconds" --seed "$seed"

if [ -n "$failed" ]; then
    say "went wrong:$failed (seed $seed)"
    exit 1
fi
say "all is well (seed $seed)"
