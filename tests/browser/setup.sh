#!/bin/sh -eu
# What the browser tests need beyond .venv/: Debian's Chromium with its driver, and Selenium. What is there is left alone.
cd "$(dirname "$0")/../.."
SELENIUM=4.51.0
PACKAGES="chromium chromium-driver"

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "The browser tests need chromium and chromedriver on the PATH; on Debian, as root: apt-get install $PACKAGES"
        exit 1
    fi
    echo "installing $PACKAGES"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $PACKAGES
fi

.venv/bin/python -c "import selenium, sys; sys.exit(selenium.__version__ != '$SELENIUM')" 2>/dev/null ||
    .venv/bin/uv pip install --quiet --python .venv/bin/python selenium==$SELENIUM
