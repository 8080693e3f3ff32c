#!/bin/bash
# A replica: a copy of the primary at the first start, and a follower of it then.
set -euo pipefail
export PGPASSWORD=$POSTGRES_PASSWORD
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    pg_basebackup --host=postgres --username="$POSTGRES_USER" --pgdata="$PGDATA" --wal-method=stream --write-recovery-conf
    chmod 700 "$PGDATA"
fi
exec postgres
