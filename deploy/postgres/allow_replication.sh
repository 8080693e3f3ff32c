#!/bin/sh
# At the first start of the primary: the replica may copy it and follow it.
set -eu
echo 'host replication all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
