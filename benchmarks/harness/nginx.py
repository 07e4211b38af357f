"""nginx: as the upstreams behind every subject, and as a subject."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from .processes import Process, free_ports
from .site import HOST, Running, Site, Subject, Work, output_of, tool, write
from .tls_certificates import UPSTREAM as UPSTREAM_NAME
from .tls_certificates import Certificates, Identity, Pair
from .tls_client import SUITE, TlsClient

MAX_RETURNED = 2048  # octets that fit a `return` directive (its parser takes 4 KiB); longer bodies are a file
UPSTREAM = """\
daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log {folder}/upstream.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 1h; default_type text/plain;
  sendfile on; tcp_nopush on; open_file_cache max=10; open_file_cache_valid 1h;
  client_body_temp_path {folder}/u1; proxy_temp_path {folder}/u2; fastcgi_temp_path {folder}/u3;
  uwsgi_temp_path {folder}/u4; scgi_temp_path {folder}/u5;
  server {{ listen {host}:{v1} backlog=4096{tls}; location / {{ add_header x-version v1; {seen}{answer} }} }}
  server {{ listen {host}:{beta} backlog=4096{tls}; location / {{ add_header x-version beta; {seen}{answer} }} }}
{impostors}}}
"""
LOG_TLS = ',"tls_version":"$ssl_protocol","peer_identity":"$ssl_client_s_dn"'
SEEN = """\
add_header x-tls "$ssl_protocol $ssl_client_verify $ssl_client_s_dn";
    add_header x-forwarded-client "$http_x_forwarded_client_cert";
    """


def _server_tls(pair: Pair, trust: Path) -> str:
    """A server that wants a certificate of its clients; with one cipher suite and group, as the load has."""
    return f"""\
 ssl;
    ssl_certificate {pair.certificate}; ssl_certificate_key {pair.key};
    ssl_client_certificate {trust}; ssl_verify_client on;
    ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE}; ssl_ecdh_curve X25519"""


@dataclass(frozen=True, slots=True)
class Impostors:
    """Ports of upstreams that must not be spoken to, as their certificates are wrong; 0: there are none."""

    wrong: int = 0  # of the root that all trust, but another's
    stranger: int = 0  # of another root


def start_upstreams(
    folder: Path,
    cpus: tuple[int, ...],
    body_bytes: int,
    host: str = "127.0.0.1",
    files: Certificates | None = None,
    impostors: Impostors | None = None,
) -> tuple[Process, int, int]:
    """
    One nginx with two servers, `v1` and `beta`, that answer at once from memory or page cache.

    Args:
        files: The servers speak TLS, and say of each request who asked.
        impostors: Ports for more servers, if these are there.

    Returns:
        The ports of the two.
    """
    v1, beta = free_ports(2)
    answer = f'return 200 "{"x" * body_bytes}";'
    if body_bytes > MAX_RETURNED:
        body = folder / "body"
        body.write_bytes(b"x" * body_bytes)
        answer = f"root {folder}; rewrite ^ /{body.name} break;"
        folder.chmod(0o755)  # nginx's worker is another user when its master is root
    false = [(impostors.wrong, files.other), (impostors.stranger, files.stranger)] if files and impostors else []
    text = UPSTREAM.format(
        folder=folder,
        host=host,
        v1=v1,
        beta=beta,
        answer=answer,
        tls=_server_tls(files.upstream, files.trust) if files else "",
        seen=SEEN if files else "",
        impostors="".join(
            f"  server {{ listen {host}:{port}{_server_tls(pair, files.trust)}; return 200; }}\n"
            for port, pair in false
            if files
        ),
    )
    config = write(folder, "upstream.conf", text)
    process = Process("upstream", [_nginx(), "-p", str(folder), "-c", str(config)], folder, cpus, {})
    client = TlsClient(folder, files.trust, files.subject, "http/1.1") if files else None
    process.wait_for(v1, "/", client=client)
    process.wait_for(beta, "/", client=client)
    return process, v1, beta


def _nginx() -> str:
    return tool("nginx") or "nginx"


# Bodies are streamed as by the others: with nginx's defaults an upload would be stored before it is sent on, and a long
# response that the client is slow to take would go to a file.
NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/n1; proxy_temp_path {folder}/n2; fastcgi_temp_path {folder}/n3;
  uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  log_format json escape=json '{{"start_time":"$time_iso8601","method":"$request_method","path":"$request_uri",'
    '"protocol":"$server_protocol","response_code":$status,"route_name":"$route","upstream_cluster":"$cluster",'
    '"upstream_host":"$upstream_addr","bytes_received":$request_length,"bytes_sent":$body_bytes_sent,'
    '"duration":$request_time,"upstream_service_time":"$upstream_response_time","request_id":"$request_id",'
    '"authority":"$host","user_agent":"$http_user_agent","x_forwarded_for":"$proxy_add_x_forwarded_for",'
    '"downstream_remote_address":"$remote_addr:$remote_port"{log_tls}}}';
  access_log {access_log};
  upstream v1 {{ server 127.0.0.1:{v1}; keepalive 1024; keepalive_requests 100000000; }}
  upstream beta {{ server 127.0.0.1:{beta}; keepalive 1024; keepalive_requests 100000000; }}
  split_clients $request_id $canary {{ 95% v1; * beta; }}
  map $cookie_BETA_USER $cluster {{ default $canary; "true" beta; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
{tls}  server {{ listen 127.0.0.1:{port}{ssl} backlog=4096 default_server; return 404; }}
  server {{
    listen 127.0.0.1:{port}{ssl};
    server_name {host}; set $route "";
{locations}
    location /v1 {{ set $route split; proxy_pass {scheme}://$cluster; }}
    location / {{ return 404; }}
  }}
}}
"""


def _start_nginx(site: Site, work: Work) -> Running:
    (port,) = free_ports(1)
    log = site.folder / "nginx-access.json"
    identity = Identity(site.folder, work.tls.files.subject, work.tls.files.trust) if work.tls else None
    client = work.tls.client("http/1.1") if work.tls else None  # any other than it knows ends the handshake
    scheme = "https" if work.is_outward else "http"
    false = (("/wrong", "wrong"), ("/stranger", "stranger")) if site.wrong_port else ()

    def configure(services: list[str]) -> Path:
        text = NGINX.format(
            folder=site.folder,
            files=2 * work.clients,
            v1=site.v1_port,
            beta=site.beta_port,
            port=port,
            host=HOST,
            locations="\n".join(
                f"    location {path} {{ set $route {path[1:]}; proxy_pass {scheme}://{upstream}; }}"
                for path, upstream in [*((path, "v1") for path in services), *false]
            ),
            scheme=scheme,
            log_tls=LOG_TLS if work.is_inward else "",
            ssl=" ssl" if work.is_inward else "",
            tls=_subject_tls(site, work, identity) if identity else "",
            access_log=f"{log} json buffer=64k flush=1s" if work.is_full else "off",
        )
        return write(site.folder, "nginx.conf", text)

    argv = [_nginx(), "-p", str(site.folder), "-c", str(configure(work.services))]
    process = Process("nginx", argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST, client=client)

    def reload(services: list[str]) -> None:
        configure(services)
        process.signal(signal.SIGHUP)

    def rotate(pair: Pair) -> None:
        if identity:
            identity.put(pair)
            process.signal(signal.SIGHUP)

    return Running(process, port, log=log if work.is_full else None, reload=reload, client=client, rotate=rotate)


def _subject_tls(site: Site, work: Work, identity: Identity) -> str:
    """Of all servers, and of all upstreams; who the client is, is not compared with anything."""
    mutual = work.tls is not None and work.tls.is_mutual
    text = ""
    if work.is_inward:
        text += (
            f"  ssl_certificate {identity.pair.certificate}; ssl_certificate_key {identity.pair.key};\n"
            "  ssl_protocols TLSv1.3;\n"
        )
    if mutual:
        text += (
            f"  ssl_client_certificate {identity.trust}; ssl_verify_client on;\n"
            "  proxy_set_header X-Forwarded-Client-Cert"
            """ 'Hash=$ssl_client_fingerprint;Subject="$ssl_client_s_dn"';\n"""
        )
    if work.is_outward:
        text += (
            f"  proxy_ssl_certificate {identity.pair.certificate}; proxy_ssl_certificate_key {identity.pair.key};\n"
            f"  proxy_ssl_trusted_certificate {identity.trust}; proxy_ssl_verify on; proxy_ssl_protocols TLSv1.3;\n"
            f"  proxy_ssl_name {UPSTREAM_NAME}; proxy_ssl_server_name on;\n"
            f"  upstream wrong {{ server 127.0.0.1:{site.wrong_port}; }}\n"
            f"  upstream stranger {{ server 127.0.0.1:{site.stranger_port}; }}\n"
        )
    return text


def _missing_nginx() -> str | None:
    return None if tool("nginx") else "nginx (apt-get install nginx)"


NGINX_SUBJECT = Subject(
    "nginx", _missing_nginx, lambda: output_of(_nginx(), "-v").rpartition("nginx/")[2], _start_nginx
)
