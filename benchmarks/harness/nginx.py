"""nginx: as the upstreams behind every subject, and as a subject."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .processes import Process, free_ports
from .site import SERVICES, Running, Site, Subject, output_of, write

UPSTREAM = """\
daemon off; worker_processes 1; pid {folder}/upstream.pid; error_log {folder}/upstream.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 1h; default_type text/plain;
  client_body_temp_path {folder}/u1; proxy_temp_path {folder}/u2; fastcgi_temp_path {folder}/u3;
  uwsgi_temp_path {folder}/u4; scgi_temp_path {folder}/u5;
  server {{ listen 127.0.0.1:{v1} backlog=4096; location / {{ add_header x-version v1; return 200 "{body}"; }} }}
  server {{ listen 127.0.0.1:{beta} backlog=4096; location / {{ add_header x-version beta; return 200 "{body}"; }} }}
}}
"""


def start_upstreams(folder: Path, cpus: tuple[int, ...], body_bytes: int) -> tuple[Process, int, int]:
    """One nginx with two servers, `v1` and `beta`, that answer at once from memory; gives their ports."""
    v1, beta = free_ports(2)
    text = UPSTREAM.format(folder=folder, v1=v1, beta=beta, body="x" * body_bytes)
    config = write(folder, "upstream.conf", text)
    process = Process("upstream", [_nginx(), "-p", str(folder), "-c", str(config)], folder, cpus, {})
    process.wait_for(v1, "/")
    process.wait_for(beta, "/")
    return process, v1, beta


def _nginx() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 8192; }}
http {{
  keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/n1; proxy_temp_path {folder}/n2; fastcgi_temp_path {folder}/n3;
  uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
  log_format json escape=json '{{"start_time":"$time_iso8601","method":"$request_method","path":"$request_uri",'
    '"protocol":"$server_protocol","response_code":$status,"route_name":"$route","upstream_cluster":"$cluster",'
    '"upstream_host":"$upstream_addr","bytes_received":$request_length,"bytes_sent":$body_bytes_sent,'
    '"duration":$request_time,"upstream_service_time":"$upstream_response_time","request_id":"$request_id",'
    '"authority":"$host","user_agent":"$http_user_agent","x_forwarded_for":"$proxy_add_x_forwarded_for",'
    '"downstream_remote_address":"$remote_addr:$remote_port"}}';
  access_log {access_log};
  upstream v1 {{ server 127.0.0.1:{v1}; keepalive 128; keepalive_requests 100000000; }}
  upstream beta {{ server 127.0.0.1:{beta}; keepalive 128; keepalive_requests 100000000; }}
  split_clients $request_id $canary {{ 95% v1; * beta; }}
  map $cookie_BETA_USER $cluster {{ default $canary; "true" beta; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    server_name recommendations; set $route "";
{locations}
    location /v1 {{ set $route split; proxy_pass http://$cluster; }}
    location / {{ return 404; }}
  }}
}}
"""


def _start_nginx(site: Site, full: bool) -> Running:
    (port,) = free_ports(1)
    log = site.folder / "nginx-access.json"
    locations = "\n".join(
        f"    location {path} {{ set $route {path[1:]}; proxy_pass http://v1; }}" for path in SERVICES
    )
    text = NGINX.format(
        folder=site.folder,
        v1=site.v1_port,
        beta=site.beta_port,
        port=port,
        locations=locations,
        access_log=f"{log} json buffer=64k flush=1s" if full else "off",
    )
    config = write(site.folder, "nginx.conf", text)
    process = Process("nginx", [_nginx(), "-p", str(site.folder), "-c", str(config)], site.folder, site.cpus, {})
    process.wait_for(port, "/v1/", host="recommendations")
    return Running(process, port, log=log if full else None)


def _missing_nginx() -> str | None:
    return None if os.access(_nginx(), os.X_OK) else "nginx (apt-get install nginx-light)"


NGINX_SUBJECT = Subject(
    "nginx", _missing_nginx, lambda: output_of(_nginx(), "-v").rpartition("nginx/")[2], _start_nginx
)
