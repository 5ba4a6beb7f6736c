#!/bin/sh
# Writes .env for docker-compose.yml: random secrets, readable by you only. An .env that is there is kept; what it lacks
# since an older version is added.
set -eu
cd "$(dirname "$0")/.."

random() { # BYTES: that many random bytes as base64, on one line
    dd if=/dev/urandom bs="$1" count=1 2>/dev/null | base64 | tr -d '\n'
}
password=$(random 24 | tr '+/' '-_')
app_password=$(random 24 | tr '+/' '-_')
key=$(random 32)
token=$(random 24 | tr '+/' '-_')
grafana=$(random 24 | tr '+/' '-_')
# A pipeline hides the failure of its first command; the lengths do not.
if [ "${#password} ${#app_password} ${#key} ${#token} ${#grafana}" != "32 32 44 32 32" ]; then
    echo "env.sh: cannot make random secrets; it needs /dev/urandom, dd, base64 and tr." >&2
    exit 1
fi

app_password_line="# Of the role that API and worker sign in with; \`migrate\` makes it.
POSTGRES_APP_PASSWORD=$app_password"

if [ -e .env ]; then
    echo "$PWD/.env is there already and is kept."
    if ! grep -q '^POSTGRES_APP_PASSWORD=' .env; then
        printf '\n%s\n' "$app_password_line" >>.env
        echo "Added POSTGRES_APP_PASSWORD, which this version needs, to it."
    fi
    exit 0
fi

umask 077
set -C # never over a file that appeared meanwhile
cat >.env <<END
# Made by deploy/env.sh. Keep a copy in a safe place: the accounts' passwords cannot be read without the key.

# PostgreSQL takes it when the database is first made; it is part of a URL, so only letters, digits, - and _.
POSTGRES_PASSWORD=$password
$app_password_line
# id:base64[,id:base64...]; the first key encrypts, all of them decrypt.
BOTFARM_ENCRYPTION_KEYS=k1:$key
# A token of role admin, valid while it is set.
BOTFARM_BOOTSTRAP_TOKEN=bootstrap_$token
# Demo users, and test runs that take them; without this line the farm is empty and yours.
COMPOSE_PROFILES=demo
# Of the account "admin"; Grafana takes it when its volume is first made.
GRAFANA_PASSWORD=$grafana
END

cat <<END
Wrote $PWD/.env with new secrets. Next, in that folder:

  docker compose up -d --wait                     start the farm: http://127.0.0.1:8000/docs
  sed -n 's/^BOTFARM_BOOTSTRAP_TOKEN=//p' .env    show the token to call it with
  sed -n 's/^GRAFANA_PASSWORD=//p' .env           show the password of "admin": http://127.0.0.1:3000
END
