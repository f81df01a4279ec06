#!/usr/bin/env bash
# The browser tests use the system's Chromium; on a root Debian machine without one it is installed.
set -u
for name in chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing chromium for the browser tests" >&2
  apt-get update -qq >/dev/null && apt-get install -y -qq chromium >/dev/null
else
  echo "no Chromium found: the browser tests will be reported as skipped; install one to run them" >&2
fi
exit 0
