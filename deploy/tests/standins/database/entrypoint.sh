#!/bin/sh
# As the official image: a database that is made when there is none.
set -eu
data=/var/lib/postgresql/data
if ! [ -e $data/PG_VERSION ]; then
    printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
    # shellcheck disable=SC2086  # options are words
    initdb --pgdata $data --username "$POSTGRES_USER" --pwfile /tmp/password ${POSTGRES_INITDB_ARGS:-}
    rm /tmp/password
    echo "host all all all scram-sha-256" >>$data/pg_hba.conf
    pg_ctl --pgdata $data --wait --options "-c listen_addresses=" start
    PGPASSWORD=$POSTGRES_PASSWORD createdb --username "$POSTGRES_USER" "$POSTGRES_USER"
    pg_ctl --pgdata $data --wait stop
fi
exec postgres -D $data -c listen_addresses='*'
