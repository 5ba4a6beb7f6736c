#!/bin/sh
# One test run after another, each with a user of its own and nothing to test.
trap 'kill "$child"; wait "$child"; exit 0' TERM INT

between() { # SHORTEST LONGEST: waits for some seconds
    sleep "$(shuf -i "$1-$2" -n 1)" &
    child=$!
    wait "$child"
}

while :; do
    botfarm exec --project shop --env stage --ttl 1m --wait 1m --owner "runner-$(hostname)" -- sleep "$(shuf -i 2-20 -n 1)" &
    child=$!
    wait "$child"
    between 1 10
done
