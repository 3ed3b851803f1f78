#!/bin/sh
# One part of all tests, for tests/run.sh: runs FOLDER/N.command, which prints `ok NAME` or `not ok NAME` lines (or none: then it counts as one
# test itself), says how it went, and leaves FOLDER/N.count: passed, failed.
# Usage: tests/part.sh FOLDER N
began=$(date +%s)
sh "$1/$2.command" >"$1/$2.out" 2>&1
status=$?
good=$(grep -c '^ok ' "$1/$2.out")
bad=$(grep -c '^not ok ' "$1/$2.out")
if [ $((good + bad)) -eq 0 ]; then
    [ $status -eq 0 ] && good=1 || bad=1
elif [ $status -ne 0 ] && [ "$bad" -eq 0 ]; then
    bad=1
fi
echo "$good $bad" >"$1/$2.count"
said=$(
    echo "$(cat "$1/$2.name"): $good passed, $bad failed ($(($(date +%s) - began)) s)"
    [ "$bad" -eq 0 ] || grep -v '^ok \|^1\.\.\|^# ok' "$1/$2.out" | tail -n 60
    grep '^SKIPPED' "$1/$2.out")
echo "$said"   # at once: others speak, too
