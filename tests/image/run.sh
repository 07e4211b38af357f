#!/usr/bin/env bash
# Builds the image where no container engine runs, and tries it as a kubelet would: `make image-test`, as root.
#
# buildah (vfs storage, chroot isolation: no daemon, no user namespace) builds it on a Debian base that debootstrap
# makes from the mirror that apt is configured with. buildah's chroot isolation can neither make the root file system
# read-only nor make the sidecar process 1, so the container is started by hand from buildah's mount: with
# network, mount, process-id, host-name and IPC namespaces of its own, a root that is remounted read-only, user 1337, no
# capability and no way to gain one, and exactly the environment, entry point and command that the image declares.
#
# The base and the wheels are kept between runs in $SIDECAR_IMAGE_CACHE (default: ~/.cache/sidecar-image). A machine
# whose apt sources debootstrap cannot use sets SIDECAR_BASE_MIRROR and SIDECAR_BASE_SUITE.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec < /dev/null

say() { printf 'image-test: %s\n' "$*"; }
fail() {
  printf 'image-test: FAILED: %s\n' "$*" >&2
  for log in "${work:-/nonexistent}"/std{out,err}.log; do
    if [ -s "$log" ]; then echo "--- ${log##*/}, last lines"; tail -n 20 "$log"; fi
  done >&2
  exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

[ "$(id -u)" = 0 ] || fail "needs root: it makes namespaces and mounts"
for tool in buildah debootstrap ip unshare nsenter setpriv curl flock pgrep python3; do
  command -v "$tool" > /dev/null || fail "$tool is not installed (Debian: buildah debootstrap iproute2 util-linux procps curl python3)"
done

cache="${SIDECAR_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sidecar-image}"
mkdir -p "$cache"
if [ -z "${SIDECAR_IMAGE_LOCKED:-}" ]; then
  # One at a time. The lock is flock's own (--close): no process that is left behind could hold it.
  SIDECAR_IMAGE_LOCKED=yes exec flock --close --wait 300 "$cache/lock" "$PWD/tests/image/run.sh"
fi

export BUILDAH_ISOLATION=chroot
# The driver must be said with the directory: a directory of one's own makes the library forget STORAGE_DRIVER.
buildah=(buildah --storage-driver vfs --root "$cache/storage" --runroot "$cache/run")
buildah() { command "${buildah[@]}" "$@"; }

work="$(mktemp -d)"
netns="sidecar-image-$$"
container=""
pids=()
clean_up() {
  trap - ERR
  set +e
  exec 2> /dev/null
  for pid in "${pids[@]}"; do
    # A container's process 1 first: killing unshare would only orphan it (the kernel forgets --kill-child when a
    # process changes its user).
    pkill -KILL --parent "$pid"
    kill -KILL "$pid"
  done
  wait
  ip netns del "$netns"
  [ -z "$container" ] || { buildah umount "$container"; buildah rm "$container"; } > /dev/null
  rm -rf "$work"
}
trap clean_up EXIT
since() { python3 -c 'import sys, time; print(f"{time.monotonic() - float(sys.argv[1]):.1f} s")' "$1"; }
now() { python3 -c 'import time; print(time.monotonic())'; }

# --- the base ------------------------------------------------------------------------------------------------
suite="${SIDECAR_BASE_SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:?the distribution has no code name}")}"
mirror="${SIDECAR_BASE_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk -v suite="$suite" '$1 == suite && $2 == "main" && !found { print $3; found = 1 }')}"
make_base() { # IMAGE PACKAGES: what debootstrap makes of the suite
  local image="$1" start scratch
  if [ -n "$(buildah images --quiet --filter "reference=$image" 2> /dev/null)" ]; then
    say "$image is there"
    return
  fi
  [ -n "$mirror" ] || fail "apt knows no mirror for $suite (apt-get update?); give SIDECAR_BASE_MIRROR"
  start="$(now)"
  mkdir -p "$work/packages"
  timeout 600 debootstrap --variant=minbase --cache-dir="$work/packages" --include="$2" "$suite" "$work/base" "$mirror" \
    > "$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap"; }
  rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,man,locale}
  scratch="$(buildah from scratch)"
  buildah add --quiet "$scratch" "$work/base" / > /dev/null
  buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd /bin/sh "$scratch"
  buildah commit --quiet --rm "$scratch" "$image" > /dev/null
  rm -rf "$work/base"
  say "made $image in $(since "$start")"
}
base="localhost/sidecar-base:$suite"
builder="localhost/sidecar-builder:$suite"
# The builder has the compiler beforehand, so that building the image needs no network.
make_base "$builder" python3,ca-certificates,gcc,libc6-dev,python3-dev
make_base "$base" python3,ca-certificates

# --- the wheels, for the base's Python, with this machine's pip and its configuration -----------------------------
container="$(buildah from "$base")"
abi="$(buildah run "$container" python3 -c 'import sys; print("%d%d" % sys.version_info[:2])')"
buildah rm "$container" > /dev/null
container=""
pip=(python3 -m pip --disable-pip-version-check --quiet --quiet)
if [ -x .venv/bin/python ]; then pip[0]=.venv/bin/python; fi
wheels="$cache/wheels-$abi-$(cat requirements.lock requirements-build.lock | cksum | tr -d ' ')"
if [ ! -d "$wheels" ]; then
  start="$(now)"
  machine="$(uname -m)"
  platforms=()
  for glibc in 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${glibc}_$machine"); done
  rm -rf "$wheels.new"
  for lock in requirements.lock requirements-build.lock; do
    "${pip[@]}" download --only-binary :all: --require-hashes --no-deps --requirement "$lock" --dest "$wheels.new" \
      --implementation cp --python-version "$abi" --abi "cp$abi" --abi abi3 --abi none \
      "${platforms[@]}" --platform "manylinux2014_$machine" --platform "manylinux1_$machine" --platform any
  done
  "${pip[@]}" download --only-binary :all: --no-deps --dest "$wheels.new" pip
  mv "$wheels.new" "$wheels"
  say "downloaded $(find "$wheels" -name '*.whl' | wc -l) wheels for Python ${abi:0:1}.${abi:1} in $(since "$start")"
fi

# --- the image -----------------------------------------------------------------------------------------------
# From what a clone would have, so that nothing that happens to lie about in the working tree gets in or is needed.
context="$work/context"
mkdir -p "$context/build"
git ls-files -z --cached --others --exclude-standard -- \
  Dockerfile .dockerignore README.md pyproject.toml requirements.lock requirements-build.lock setup.py sidecar |
  tar --create --null --files-from - | tar --extract --directory "$context"
cp -R "$wheels" "$context/build/wheels"
start="$(now)"
timeout 2000 "${buildah[@]}" build --quiet --pull-never --format docker --build-arg BASE="$base" --build-arg BUILDER="$builder" \
  --tag localhost/sidecar:test "$context" > "$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail "buildah build"; }
say "built the image in $(since "$start")"
buildah rmi --prune --force > /dev/null 2>&1 || true

container="$(buildah from --pull-never localhost/sidecar:test)"
root="$(buildah mount "$container")"
buildah inspect --type image localhost/sidecar:test > "$work/image.json"
declared() { # NAME: a list of the image's configuration, one item a line
  python3 - "$work/image.json" "$1" << 'PYTHON'
import json, sys
found = json.load(open(sys.argv[1]))["Docker"]["config"]
for name in sys.argv[2].split("."):
    found = found[name]
print(*(found if isinstance(found, list) else [found]), sep="\n")
PYTHON
}
mapfile -t environment < <(declared Env)
mapfile -t command < <(declared Entrypoint; declared Cmd)
mapfile -t healthcheck < <(declared Healthcheck.Test)
[ "${healthcheck[0]}" = CMD ] || fail "the image has no health check in exec form"
healthcheck=("${healthcheck[@]:1}")
[ "$(declared User)" = 1337:1337 ] || fail "the image runs as $(declared User)"
[ "$(declared StopSignal)" = SIGTERM ] || fail "the image stops with $(declared StopSignal)"
[ "${command[*]}" = "env --block-signal=TERM,INT,HUP,USR1 sidecar run" ] || fail "the image starts ${command[*]}"
for tool in pip pip3 gcc cc make ld uv easy_install; do
  found="$(chroot "$root" env -i "${environment[@]}" sh -c "command -v $tool" || true)"
  [ -z "$found" ] || fail "the image carries $found"
done
for module in pip setuptools ensurepip; do
  if chroot "$root" /opt/sidecar/bin/python -B -c "import $module" 2> /dev/null; then fail "the image carries the module $module"; fi
done
version="$(chroot "$root" env -i "${environment[@]}" sidecar --version)"
[[ "$version" == *"(compiled)" ]] || fail "the image's data path is not compiled: $version"
[ -z "$(find "$root/opt/sidecar" \( -perm /022 -o -perm /6000 \) ! -type l -print -quit)" ] || fail "/opt/sidecar is writable or set-id"
say "$version; user, health check, stop signal and contents are right; the sidecar adds $(du -sm "$root/opt/sidecar" | cut -f1) MB to the base"

# --- a pod: one network namespace for the app and its sidecar ------------------------------------------------------
ip netns add "$netns"
ip -n "$netns" link set lo up
# In the background never by a function: `$!` would be a shell's, and ending it would leave the process.
pod=(ip netns exec "$netns")
for server in app:8080 recommendations:8081 recommendations-beta:8082; do
  "${pod[@]}" python3 tests/image/app.py "${server%:*}" "${server#*:}" > "$work/${server%:*}.log" 2>&1 &
  pids+=($!)
done

# A ConfigMap's directory as the kubelet writes it: the file is a link through `..data`, which is replaced by a rename.
config="$work/config"
publish() { # VERSION FILE
  mkdir -p "$config/..$1"
  cp "$2" "$config/..$1/sidecar.yaml"
  chmod -R a+rX "$config"
  ln -s "..$1" "$config/..data_tmp"
  mv -T "$config/..data_tmp" "$config/..data"
  [ -L "$config/sidecar.yaml" ] || ln -s ..data/sidecar.yaml "$config/sidecar.yaml"
}
publish 1 config/examples/minimal.yaml
chmod 0711 "$work"

cat > "$work/enter.sh" << 'SHELL'
# In the new namespaces, as root, for the last time: build the container's view of the machine and become its process 1.
set -eu
root="$1" config="$2"
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for node in null zero full random urandom; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"; done
mount --bind "$config" "$root/etc/sidecar"
mount -o remount,bind,ro "$root/etc/sidecar"
mount -o remount,bind,ro "$root"
# The image's own setpriv: chroot needs the capability that is given up here.
exec chroot "$root" setpriv --reuid=1337 --regid=1337 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
SHELL
start_container() { # CONFIG COMMAND...: in the background; its host-side process is $outer
  local directory="$1"
  shift
  # The logs belong to root, and the container's user could not open them: as with an engine's pipes.
  "${pod[@]}" unshare --mount --pid --uts --ipc --fork \
    sh "$work/enter.sh" "$root" "$directory" env -i "${environment[@]}" "$@" \
    > "$work/stdout.log" 2> "$work/stderr.log" &
  outer=$!
  pids+=("$outer")
}

mkdir "$work/empty"
start_container "$work/empty" "${command[@]}"
status=0
wait "$outer" || status=$?
[ "$status" -eq 1 ] || fail "without a configuration it exits with $status instead of 1"
[ "$(wc -l < "$work/stderr.log")" -eq 1 ] || fail "without a configuration it says more or less than one line"
say "without a configuration: exit code 1, and: $(cat "$work/stderr.log")"

started="$(now)"
start_container "$config" "${command[@]}"
init=""
for _ in $(seq 100); do
  # unshare has one child, the container's process 1; it is the sidecar once it no longer runs the shell.
  init="$(pgrep --parent "$outer" || true)"
  if [ -n "$init" ] && [ "$(awk '/^Uid/ {print $2}' "/proc/$init/status" 2> /dev/null)" = 1337 ]; then break; fi
  kill -0 "$outer" 2> /dev/null || fail "the container ended at once"
  sleep 0.05
done
inside() { # COMMAND...: in the container, as its user
  nsenter --target "$init" --mount --pid --uts --ipc --net --root --wd --setgid 1337 --setuid 1337 -- env -i "${environment[@]}" "$@"
}
for attempt in $(seq 100); do
  if inside "${healthcheck[@]}" 2> "$work/health.log"; then break; fi
  kill -0 "$outer" 2> /dev/null || fail "the container ended before it was healthy"
  [ "$attempt" -lt 100 ] || fail "not healthy after $(since "$started"): $(tail -n 1 "$work/health.log")"
  sleep 0.1
done
say "healthy $(since "$started") after the start, by the image's own health check"

field() { awk -v name="$1:" '$1 == name { print $NF }' "/proc/$init/status"; }
[ "$(field NSpid)" = 1 ] || fail "the sidecar is not process 1"
[ "$(field Uid)$(field Gid)" = 13371337 ] || fail "the sidecar runs as $(field Uid):$(field Gid)"
[ "$(field CapEff)$(field CapBnd)" = 00000000000000000000000000000000 ] || fail "the sidecar has capabilities"
[ "$(field NoNewPrivs)" = 1 ] || fail "the sidecar may gain privileges"
if inside python3 -c 'open("/tmp/x", "w")' 2> "$work/write.log"; then fail "the root file system can be written"; fi
grep -q 'Read-only file system' "$work/write.log" || fail "writing failed for another reason: $(tail -n 1 "$work/write.log")"
grep -q sidecar__mypyc "/proc/$init/maps" || fail "the data path that runs is not the compiled one"
say "compiled, process 1, user 1337, no capabilities, read-only root file system"

get() { "${pod[@]}" curl --silent --show-error --max-time 5 --noproxy '' "$@"; }
get http://127.0.0.1:15000/hello | grep -q '"name": "app".*"path": "/hello".*"traceparent": "00-' || fail "a request to the app"
by_cookie="$(get --proxy http://127.0.0.1:15001 --cookie 'a=b; BETA_USER=true' http://recommendations/v1)"
[[ "$by_cookie" == *'"name": "recommendations-beta"'* ]] || fail "the cookie should lead to beta: $by_cookie"
get --header 'host: recommendations' http://127.0.0.1:15001/v1 | grep -q '"name": "recommendations' || fail "a request from the app"
get http://127.0.0.1:15020/metrics | grep -q '^sidecar_requests_total{.*recommendations-beta' || fail "the request is not in the metrics"
say "requests to the app and from the app are served and counted"

sed 's/to: {recommendations: 95, recommendations-beta: 5}, sticky: {cookie: uid}/respond: {status: 418}/' config/examples/minimal.yaml > "$work/next.yaml"
publish 2 "$work/next.yaml"
swapped="$(now)"
until [ "$(get --output /dev/null --write-out '%{http_code}' --header 'host: recommendations' http://127.0.0.1:15001/v1)" = 418 ]; do
  # The promise is one second; half a second more for a machine that is busy with other things.
  python3 -c 'import sys, time; sys.exit(time.monotonic() - float(sys.argv[1]) > 1.5)' "$swapped" ||
    fail "the swapped configuration has no effect after $(since "$swapped")"
done
say "a swapped ConfigMap was in effect after $(since "$swapped")"

stopped="$(now)"
kill -TERM "$init"
status=0
wait "$outer" || status=$?
[ "$status" -eq 0 ] || fail "SIGTERM ended it with exit code $status"
say "SIGTERM: exit code 0 after $(since "$stopped")"

python3 - "$work/stdout.log" << 'PYTHON' || fail "the access log"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
codes = [line["response_code"] for line in lines]
assert codes[:3] == [200, 200, 200] and codes[-1] == 418, codes
assert all(line["trace_id"] for line in lines)
PYTHON
if grep -qi traceback "$work/stderr.log"; then fail "a traceback in the log"; fi
say "the access log on standard output has a line for every request"
say "passed"
