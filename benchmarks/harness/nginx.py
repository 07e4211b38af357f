"""nginx: as the upstreams behind every subject, and as a subject."""

from __future__ import annotations

import signal
from pathlib import Path

from .processes import Process, free_ports
from .site import HOST, Running, Site, Subject, Work, output_of, tool, write

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
  server {{ listen {host}:{v1} backlog=4096; location / {{ add_header x-version v1; {answer} }} }}
  server {{ listen {host}:{beta} backlog=4096; location / {{ add_header x-version beta; {answer} }} }}
}}
"""


def start_upstreams(
    folder: Path, cpus: tuple[int, ...], body_bytes: int, host: str = "127.0.0.1"
) -> tuple[Process, int, int]:
    """One nginx with two servers, `v1` and `beta`, that answer at once from memory or page cache; gives their ports."""
    v1, beta = free_ports(2)
    answer = f'return 200 "{"x" * body_bytes}";'
    if body_bytes > MAX_RETURNED:
        body = folder / "body"
        body.write_bytes(b"x" * body_bytes)
        answer = f"root {folder}; rewrite ^ /{body.name} break;"
        folder.chmod(0o755)  # nginx's worker is another user when its master is root
    config = write(folder, "upstream.conf", UPSTREAM.format(folder=folder, host=host, v1=v1, beta=beta, answer=answer))
    process = Process("upstream", [_nginx(), "-p", str(folder), "-c", str(config)], folder, cpus, {})
    process.wait_for(v1, "/")
    process.wait_for(beta, "/")
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
    '"downstream_remote_address":"$remote_addr:$remote_port"}}';
  access_log {access_log};
  upstream v1 {{ server 127.0.0.1:{v1}; keepalive 1024; keepalive_requests 100000000; }}
  upstream beta {{ server 127.0.0.1:{beta}; keepalive 1024; keepalive_requests 100000000; }}
  split_clients $request_id $canary {{ 95% v1; * beta; }}
  map $cookie_BETA_USER $cluster {{ default $canary; "true" beta; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{ listen 127.0.0.1:{port} backlog=4096 default_server; return 404; }}
  server {{
    listen 127.0.0.1:{port};
    server_name {host}; set $route "";
{locations}
    location /v1 {{ set $route split; proxy_pass http://$cluster; }}
    location / {{ return 404; }}
  }}
}}
"""


def _start_nginx(site: Site, work: Work) -> Running:
    (port,) = free_ports(1)
    log = site.folder / "nginx-access.json"

    def configure(services: list[str]) -> Path:
        text = NGINX.format(
            folder=site.folder,
            files=2 * work.clients,
            v1=site.v1_port,
            beta=site.beta_port,
            port=port,
            host=HOST,
            locations="\n".join(
                f"    location {path} {{ set $route {path[1:]}; proxy_pass http://v1; }}" for path in services
            ),
            access_log=f"{log} json buffer=64k flush=1s" if work.is_full else "off",
        )
        return write(site.folder, "nginx.conf", text)

    argv = [_nginx(), "-p", str(site.folder), "-c", str(configure(work.services))]
    process = Process("nginx", argv, site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host=HOST)

    def reload(services: list[str]) -> None:
        configure(services)
        process.signal(signal.SIGHUP)

    return Running(process, port, log=log if work.is_full else None, reload=reload)


def _missing_nginx() -> str | None:
    return None if tool("nginx") else "nginx (apt-get install nginx)"


NGINX_SUBJECT = Subject(
    "nginx", _missing_nginx, lambda: output_of(_nginx(), "-v").rpartition("nginx/")[2], _start_nginx
)
