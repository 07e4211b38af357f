# The sidecar as a container: its Python environment, its source, and nothing to build or install with.
#
#   docker build --tag sidecar .
#   docker run --network container:APP --volume ./config:/etc/sidecar:ro --read-only sidecar
#
# BASE is any image with glibc and `python3` of version 3.11 or later. The builder needs pip, from BASE or from the
# wheel house: wheels in build/wheels (`pip download --dest build/wheels ...`), if there are any, are used
# instead of the network. The data path is compiled, unless `--build-arg COMPILE=0`; the compiler is installed in the
# builder, which may be another image with the same Python. docs/container.md says more.
ARG BASE=python:3.13-slim
ARG BUILDER=${BASE}
ARG COMPILE=1

# --- builder: an environment without pip, filled from the lock file ------------------------------------------
FROM ${BUILDER} AS builder
ARG COMPILE

RUN set -eu; \
    if [ "$COMPILE" != 1 ]; then exit 0; fi; \
    headers="$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')"; \
    if command -v gcc > /dev/null && [ -e "$headers/Python.h" ] && [ -e /usr/include/stdio.h ]; then exit 0; fi; \
    if ! command -v apt-get > /dev/null; then \
        echo 'the builder has no C compiler: give it one (--build-arg BUILDER=...), or --build-arg COMPILE=0' >&2; exit 1; \
    fi; \
    apt-get -qq update; \
    # An image of Python brings its headers; a distribution has them in a package.
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends gcc libc6-dev \
        $(if [ ! -e "$headers/Python.h" ]; then echo python3-dev; fi) > /dev/null

# The bracket makes the wheel house optional: a pattern that matches nothing is no error.
COPY requirements.lock requirements-build.lock build/wheel[s] /src/wheels/
RUN set -eu; \
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "BASE needs Python 3.11 or later")'; \
    python3 -m venv --without-pip /opt/sidecar; \
    cd /src/wheels; \
    pip="python3 -m pip"; \
    for wheel in pip-*.whl; do if [ -e "$wheel" ]; then pip="python3 $wheel/pip"; fi; done; \
    source=""; \
    for wheel in uvloop-*.whl; do if [ -e "$wheel" ]; then source="--no-index --find-links ."; fi; done; \
    install="install --no-cache-dir --disable-pip-version-check --no-compile --only-binary :all: --require-hashes $source"; \
    $pip --python /opt/sidecar/bin/python $install --requirement requirements.lock; \
    find /opt/sidecar/bin -type f -delete; \
    if [ "$COMPILE" != 1 ]; then exit 0; fi; \
    python3 -m venv --without-pip /opt/build; \
    $pip --python /opt/build/bin/python $install --requirement requirements-build.lock

# To install the package is to copy it; what was compiled goes beside its source, which tracebacks quote.
COPY setup.py pyproject.toml README.md /src/
COPY sidecar /src/sidecar
RUN set -eu; \
    packages="$(/opt/sidecar/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
    cp -R /src/sidecar "$packages/"; \
    if [ "$COMPILE" = 1 ]; then \
        cd /src; \
        SIDECAR_COMPILE=1 PYTHONPATH="$packages" /opt/build/bin/python setup.py --quiet build --build-lib /src/built; \
        cp -R /src/built/. "$packages/"; \
    fi; \
    printf '%s\n' '#!/opt/sidecar/bin/python' 'import sys' '' 'from sidecar.cli.main import main' '' 'sys.exit(main())' \
        > /opt/sidecar/bin/sidecar; \
    chmod 0755 /opt/sidecar/bin/sidecar; \
    # Byte code that is never compared with its source: the file system is read-only, and starting is quicker.
    /opt/sidecar/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/sidecar/lib; \
    chmod -R a+rX,go-w /opt/sidecar

# --- the image -----------------------------------------------------------------------------------------------
FROM ${BASE}
ARG COMPILE

# What installs packages goes (python:*-slim has pip and ensurepip), and the standard library is compiled once here
# (python:*-slim ships it without byte code) instead of at every start and every health check.
RUN set -eu; \
    rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip*; \
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|tkinter|lib2to3|turtledemo)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"; \
    mkdir -p /etc/sidecar /var/lib/sidecar; \
    # What a mesh told last is kept here; a volume that is made for it belongs to the same user.
    chown 1337:1337 /var/lib/sidecar; chmod 0700 /var/lib/sidecar; \
    echo 'sidecar:x:1337:1337:sidecar:/nonexistent:/usr/sbin/nologin' >> /etc/passwd; \
    echo 'sidecar:x:1337:' >> /etc/group

COPY --from=builder /opt/sidecar /opt/sidecar
# A builder with another Python, or a newer glibc, is found here and not in production.
RUN /opt/sidecar/bin/python -B -c "import sys; from sidecar.build import KIND; import sidecar.runtime.server; \
    sys.exit(KIND != ('compiled' if '$COMPILE' == '1' else 'interpreted') and f'the data path is {KIND}')"

ENV PATH=/opt/sidecar/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1

# The id that the mesh's traffic-capture rules exempt; a number, so that `runAsNonRoot` can be checked.
USER 1337:1337
WORKDIR /

# inbound, outbound, metrics and health; the admin listener (9901) is on loopback only.
EXPOSE 15000 15001 15020

# No shell, no curl, no site-packages: 18 ms of CPU with Python 3.11. It asks the default `telemetry.metrics.listen`.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["python3", "-E", "-S", "-c", "import socket; s = socket.create_connection(('127.0.0.1', 15020), 2); s.sendall(b'GET /ready HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n'); raise SystemExit(s.makefile('rb').readline().split()[1:2] != [b'200'])"]

STOPSIGNAL SIGTERM
# Signals wait from the very first instruction: until the interpreter has started, the kernel would drop them for process 1.
ENTRYPOINT ["env", "--block-signal=TERM,INT,HUP,USR1", "sidecar"]
CMD ["run"]
