#!/bin/sh
# One test run after another, each with a user of its own and nothing to test.
# `$!` and no variable of our own, because the signal may come before it is set.
trap 'kill "$!"; wait "$!"; exit 0' TERM INT

between() { # SHORTEST LONGEST: waits for some seconds
    sleep "$(shuf -i "$1-$2" -n 1)" &
    wait "$!"
}

while :; do
    botfarm exec --project shop --env stage --ttl 1m --wait 1m --owner "runner-$(hostname)" -- sleep "$(shuf -i 2-20 -n 1)" &
    wait "$!"
    between 1 10
done
