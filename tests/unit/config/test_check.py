"""What is wrong with a file: message, hint, and where, for every rule."""

# ruff: noqa: E501 - a row of the table is a file and the line that a user sees, which is easier to compare unbroken

from __future__ import annotations

import pytest

from sidecar.config.load import load_source, load_text
from sidecar.config.problems import ConfigError
from sidecar.config.source import make_source
from sidecar.config.values import unsupported


def complaints(text: str, **env: str) -> list[str]:
    """The problems of a file as lines."""
    with pytest.raises(ConfigError) as caught:
        load_text(text.encode(), "f", env)
    return [str(problem) for problem in caught.value.problems]


def route(text: str, match: str = "") -> str:
    """A file whose only outbound route is `text`, on line 3 from column 22."""
    upstreams = 'upstreams: {a: {endpoints: ["h:1"]}, b: {dns: "h:2"}}'
    return f"service: s\n{upstreams}\noutbound: {{routes: [ {{{text}}} ]}}\n"


def log(settings: str) -> str:
    """A file with these settings of the access log, which begin at 3:26."""
    return f"service: s\noutbound: {{}}\ntelemetry: {{access_log: {{{settings}}}}}"


def upstream(text: str) -> str:
    """A file whose only upstream is `text`, on line 3."""
    return f"service: s\noutbound: {{}}\nupstreams: {{a: {{{text}}}}}\n"


@pytest.fixture(autouse=True)
def everything_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of keys that are not in force yet are tested, too."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset())


CONDITIONS = (
    "a status from 400 to 599, or one of `connect_failure`, `reset_before_response`, `refused`, `gateway_error`, `5xx`, "
    "`retriable_4xx`, `timeout`, `grpc_cancelled`, `grpc_deadline_exceeded`, `grpc_internal`, `grpc_resource_exhausted`, "
    "`grpc_unavailable`"
)
R = "outbound.routes[0]"
KINDS = "`exact`, `prefix`, `suffix`, `contains`, `regex`, `range` and `present`"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # --- the file as a whole
        ("", "f:1:1: expected a mapping, found an empty file; begin with `service: <name of your app>`"),
        ("- a", "f:1:1: expected a mapping, found a list"),
        ("outbound: {}", "f:1:1: the key `service` is missing; such as `service: storefront`"),
        ("service: s", "f:1:1: expected `inbound`, `outbound` or both, found neither; there is nothing to listen for"),
        ("service: [s]\noutbound: {}", "f:1:10: service: expected a name, or a mapping `{name, version, namespace}`, "
         "found a list"),
        ("service: {name: s, versio: 1}\noutbound: {}", "f:1:20: service.versio: unknown key `versio`; "
         "did you mean `version`?"),
        ("service: s\ninbound: {}", "f:2:1: inbound: expected `app` or `routes`, found neither; "
         "such as `app: 127.0.0.1:8080`"),
        ("service: s\ninbound: {app: 'h:1', forwarded: {}}", "f:2:23: inbound.forwarded: expected one of `trusted_hops` and "
         "`trusted_networks`, found neither; such as `trusted_hops: 1` behind one load balancer"),
        ("service: s\ninbound: {app: 'h:1', forwarded: {trusted_hops: 1, trusted_networks: 10.0.0.0/8}}", "f:2:23: "
         "inbound.forwarded: expected one of `trusted_hops` and `trusted_networks`, found both; such as `trusted_hops: 1` "
         "behind one load balancer"),
        ("service: s\ninbound: {app: 'h:1', forwarded: {trusted_hops: 0}}", "f:2:49: inbound.forwarded.trusted_hops: expected "
         "an integer from 1 to 32, found 0"),
        ("service: s\ninbound: {app: 'h:1', forwarded: {trusted_networks: [10.0.0.7/8]}}", "f:2:54: "
         "inbound.forwarded.trusted_networks[0]: expected a network such as `10.0.0.0/8`, an IP address, or `unix`, found "
         '"10.0.0.7/8"; did you mean `10.0.0.0/8`?'),
        ("service: s\noutbound: {}\ntls: {}", "f:3:1: tls: unknown key `tls`; who we are is `identity`; `tls` is a "
         "key of `inbound`, of a listener and of an upstream"),
        ("service: s\noutbound: {}\nworkers: 0", "f:3:10: workers: expected an integer from 1 to 64, or `auto`, "
         "found 0"),
        # --- listeners
        ("service: s\noutbound: {listen: '127.0.0.1:9901'}\nadmin: {}", "f:3:8: admin: `127.0.0.1:9901` is already "
         "listened on as `127.0.0.1:9901` by `outbound`; give each listener an address of its own"),
        ("service: s\noutbound: {listen: ['127.0.0.1:1', '0.0.0.0:1']}", "f:2:36: outbound.listen[1]: `0.0.0.0:1` is "
         "already listened on as `127.0.0.1:1` by `outbound`; give each listener an address of its own"),
        ("service: s\noutbound: {listen: {address: '127.0.0.1:1', host: '*'}}", "f:2:51: outbound.listen.host: "
         'expected one host, without `*`, found "*"'),
        # --- actions
        (route("name: x"), f"f:3:22: {R}: expected one of `to`, `redirect` and `respond`, found none"),
        (route("to: a, respond: {status: 200}"), f"f:3:22: {R}: expected one of `to`, `redirect` and `respond`, "
         "found `to` and `respond`; make two routes of it"),
        (route("to: aa"), f"f:3:27: {R}.to: there is no upstream `aa`; did you mean `a`?"),
        (route("to: {a: 1, bb: 1}"), f"f:3:34: {R}.to.bb: there is no upstream `bb`; did you mean `b`?"),
        (route("to: {a: 0, b: 0}"), f"f:3:27: {R}.to: weights sum to 0; give at least one upstream a positive weight"),
        (route("to: {a: -1}"), f"f:3:31: {R}.to.a: expected a weight: a number that is not negative, or a percentage, "
         "found -1"),
        (route("to: [a, a]"), f"f:3:31: {R}.to[1]: the upstream `a` comes twice; add up its weights, "
         "or give each a `rewrite` of its own"),
        (route("to: [{weight: 1}]"), f"f:3:28: {R}.to[0]: expected one of `upstream` and `redirect`, found none"),
        (route("to: [a, {upstream: b, redirect: {path: /x}}]"), f"f:3:31: {R}.to[1]: expected one of `upstream` and "
         "`redirect`, found both"),
        (route("to: [{redirect: {path: /x}}]"), f"f:3:29: {R}.to[0].redirect: a redirect is all that the route does; write "
         "`redirect` of the route"),
        (route("to: [a, {redirect: {path: /x}, rewrite: {path: /y}}]"), f"f:3:54: {R}.to[1].rewrite: `rewrite` has no "
         "effect beside `redirect`; remove it"),
        (route("to: [a, {redirect: {path: /x}, request_headers: {remove: x}}]"), f"f:3:54: {R}.to[1].request_headers: "
         "`request_headers` has no effect beside `redirect`; remove it"),
        (route("to: [a, {redirect: {}}]"), f"f:3:42: {R}.to[1].redirect: expected `scheme`, `host`, `port`, `path` or "
         "`prefix`, found none; it would lead to itself; only 303, which is followed by GET, may stand alone"),
        (route("to: [a, {redirect: {prefix: /x}}]"), f"f:3:43: {R}.to[1].redirect.prefix: there is no matched prefix to "
         "replace; give every match of the route `path: {prefix: ...}`"),
        (route("to: [a, {upstream: b, rewrite: {}}]"), f"f:3:45: {R}.to[1].rewrite: expected `host`, `path`, `prefix` or "
         "`regex`, found none"),
        (route("to: [a, {upstream: b, rewrite: {prefix: /x}}]"), f"f:3:55: {R}.to[1].rewrite.prefix: there is no matched "
         "prefix to replace; give every match of the route `path: {prefix: ...}`"),
        (route("to: {redirect: {path: /x}}"), f"f:3:27: {R}.to: expected an upstream's name, a mapping "
         "`{name: weight}`, or a list of `{upstream, weight}`, found a mapping; put the mapping with `redirect` into a "
         "list: `- redirect: ...`"),
        (route("to: []"), f"f:3:27: {R}.to: expected at least one upstream, found a list"),
        (route("to: {upstream: a, weight: 1}"), f"f:3:27: {R}.to: expected an upstream's name, a mapping "
         "`{name: weight}`, or a list of `{upstream, weight}`, found a mapping; put the mapping with `upstream` into a "
         "list: `- upstream: ...`"),
        (route("to: [{upstream: a, wieght: 1}]"), f"f:3:42: {R}.to[0].wieght: unknown key `wieght`; "
         "did you mean `weight`?"),
        (route("to: a, sticky: {cookie: u}"), f"f:3:30: {R}.sticky: `sticky` needs at least two upstreams in `to`; "
         "remove it"),
        (route("to: {a: 1, b: 1}, sticky: {}"), f"f:3:49: {R}.sticky: expected one of `cookie`, `header`, `query` and "
         "`source_ip`, found none"),
        (route("to: {a: 1, b: 1}, sticky: {source_ip: false}"), f"f:3:61: {R}.sticky.source_ip: expected `true`, "
         "found false; name what is to be used instead"),
        (route("respond: {status: 200}, timeout: 1s"), f"f:3:47: {R}.timeout: `timeout` has no effect beside `respond`; "
         "remove it"),
        (route("respond: {status: 204, body: x}"), f"f:3:46: {R}.respond.body: a response with status 204 has no body; "
         "remove it"),
        (route("respond: {status: 101}"), f"f:3:41: {R}.respond.status: expected an integer from 200 to 599, found 101"),
        (route('respond: {status: "200"}'), f"f:3:41: {R}.respond.status: expected an integer from 200 to 599, "
         'found "200"; remove the quotes'),
        (route("respond: {body: x}"), f"f:3:23: {R}.respond: the key `status` is missing"),
        (route("redirect: {}"), f"f:3:33: {R}.redirect: expected `scheme`, `host`, `port`, `path` or `prefix`, "
         "found none; it would lead to itself; only 303, which is followed by GET, may stand alone"),
        (route("redirect: {status: 302}"), f"f:3:33: {R}.redirect: expected `scheme`, `host`, `port`, `path` or `prefix`, "
         "found none; it would lead to itself; only 303, which is followed by GET, may stand alone"),
        (route("redirect: {path: /a, status: 304}"), f"f:3:52: {R}.redirect.status: expected 301, 302, 303, 307 or 308, "
         "found 304"),
        (route("redirect: {path: /a, prefix: /b}, match: {path: {prefix: /c}}"), f"f:3:33: {R}.redirect: expected one "
         "of `path` and `prefix`, found both"),
        (route("redirect: {prefix: /b}"), f"f:3:34: {R}.redirect.prefix: there is no matched prefix to replace; "
         "give every match of the route `path: {prefix: ...}`"),
        (route("to: a, rewrite: {prefix: /b}, match: [{path: {prefix: /c}}, {path: {suffix: c}}]"),
         f"f:3:40: {R}.rewrite.prefix: there is no matched prefix to replace; give every match of the route "
         "`path: {prefix: ...}`"),
        (route("to: a, rewrite: {}"), f"f:3:30: {R}.rewrite: expected `host`, `path`, `prefix` or `regex`, found none"),
        (route("to: a, rewrite: {path: /b, regex: {pattern: a, substitution: b}}"), f"f:3:39: {R}.rewrite: expected one "
         "of `path`, `prefix` and `regex`, found `path` and `regex`"),
        (route(r"to: a, rewrite: {regex: {pattern: a, substitution: \1}}"), f"f:3:74: {R}.rewrite.regex.substitution: "
         r"`\1` names a group, of which the pattern has 0"),
        (route(r"to: a, rewrite: {regex: {pattern: a, substitution: x\y}}"), f"f:3:74: {R}.rewrite.regex.substitution: "
         r"expected a digit or `\` after `\`, found `y`; write `\\` for a backslash"),
        # --- matches
        (route("to: a, match: {headers: {X-A: {}}}"), f"f:3:53: {R}.match.headers.X-A: expected one of {KINDS}, "
         "found none"),
        (route("to: a, match: {cookies: {c: {exact: a, regex: b}}}"), f"f:3:51: {R}.match.cookies.c: expected one of "
         f"{KINDS}, found `exact` and `regex`"),
        (route("to: a, match: {query: {q: {present: true, ignore_case: true}}}"), f"f:3:65: {R}.match.query.q."
         "ignore_case: `ignore_case` has no effect beside `present`; remove it"),
        (route("to: a, match: {query: {q: {range: [5, 5]}}}"), f"f:3:57: {R}.match.query.q.range: expected a range of "
         "64-bit integers whose start is less than its end, found a list; the start is included, the end is not"),
        (route("to: a, match: {query: {q: [a]}}"), f"f:3:49: {R}.match.query.q: expected a string, or a mapping such as "
         "`{prefix: v1}`, found a list"),
        (route("to: a, match: {headers: {X: a, x: b}}"), f"f:3:47: {R}.match.headers: `X` and `x` are the same header; "
         "header names match in any case"),
        (route('to: a, match: {host: "http://a:80/"}'), f"f:3:44: {R}.match.host: expected a host, with or without a "
         'port, such as `shop`, `shop:9090`, `*.example.com` or `*`, found "http://a:80/"; hosts are compared without a '
         "scheme: write `a:80`"),
        (route('to: a, match: {host: "a:0"}'), f"f:3:44: {R}.match.host: expected a host, with or without a port, such "
         'as `shop`, `shop:9090`, `*.example.com` or `*`, found "a:0"; ports go from 1 to 65535'),
        (route("to: a, match: {host: []}"), f"f:3:44: {R}.match.host: expected at least one value, found a list; "
         "remove the key if nothing is meant"),
        (route("to: a, match: {path: {template: 'a/{b}'}}"), f"f:3:55: {R}.match.path.template: expected a path that "
         'begins with `/`, found "a/{b}"; did you mean `/a/{b}`?'),
        (route("to: a, match: {path: {template: '/a/{b'}}"), f"f:3:55: {R}.match.path.template: a `{{` that is not closed "
         "in `{b`; write `{name}`; the character itself is `%7B`"),
        (route("to: a, match: {path: {template: '/{a}/{a}'}}"), f"f:3:55: {R}.match.path.template: the name `a` comes "
         "twice in the template; rename one of them"),
        (route("to: a, match: {path: {template: '/{a...}/b'}}"), f"f:3:55: {R}.match.path.template: `{{a...}}` stands for "
         "all that is left of a path, and so only at the end; for one segment write `{a}`"),
        (route("to: a, match: {path: {template: '/{}'}}"), f"f:3:55: {R}.match.path.template: the name between `{{` and "
         "`}` is empty in `{}`; give it one, such as `{id}`"),
        (route("to: a, match: {path: {template: '/{a}?b'}}"), f"f:3:55: {R}.match.path.template: a path does not hold "
         "`?`; match the query by `query`; the character itself is `%3F`"),
        (route("to: a, match: {path: {template: [/a]}}"), f"f:3:55: {R}.match.path.template: expected a path that begins "
         "with `/`, found a list"),
        (route("to: a, rewrite: {prefix: /b}, match: {path: {template: '/{a}'}}"), f"f:3:40: {R}.rewrite.prefix: there is "
         "no matched prefix to replace; give every match of the route `path: {prefix: ...}`"),
        (route("to: a, match: {path: {starts_wiht: /a}}"), f"f:3:45: {R}.match.path.starts_wiht: unknown key "
         "`starts_wiht`; did you mean `starts_with`?"),
        # --- edits
        (route("to: a, request_headers: {set: {Content-Length: 1}}"), f"f:3:54: {R}.request_headers.set.Content-Length: "
         "the header `content-length` cannot be edited; it belongs to one connection or frames the message"),
        (route("to: a, request_headers: {set: {x: a}, remove: [X]}"), f"f:3:70: {R}.request_headers.remove[0]: "
         "the header `x` is also in `set`; `set` already replaces it"),
        (route(r'to: a, response_headers: {add: {x: ["a", "b\r\nc"]}}'), f"f:3:64: {R}.response_headers.add.x[1]: "
         "a header value holds a line break or another control character; remove it"),
        # --- protection of routes
        (route("to: a, mirror: c"), f"f:3:38: {R}.mirror: there is no upstream `c`"),
        (route("to: a, mirror: [b, {to: c}]"), f"f:3:47: {R}.mirror[1].to: there is no upstream `c`"),
        (route("to: a, mirror: [b, {to: b, percent: 5%}]"), f"f:3:47: {R}.mirror[1].to: the mirror `b` comes twice; remove "
         "one, or add up the shares"),
        (route("to: a, mirror: []"), f"f:3:38: {R}.mirror: expected at least one value, found a list; remove the key if "
         "nothing is meant"),
        (route("to: a, mirror: [{percent: 5%}]"), f"f:3:39: {R}.mirror[0]: the key `to` is missing"),
        (route("to: a, retry: {on: [gateway_eror]}"), f"f:3:43: {R}.retry.on[0]: expected {CONDITIONS}, "
         'found "gateway_eror"; did you mean `gateway_error`?'),
        (route("to: a, retry: {on: 200}"), f"f:3:42: {R}.retry.on: expected {CONDITIONS}, found 200"),
        (route("to: a, retry: {on: [503, timeout, 503]}"), f"f:3:57: {R}.retry.on[2]: `503` comes twice; remove one"),
        (route("to: a, retry: {attempts: 11}"), f"f:3:48: {R}.retry.attempts: expected an integer from 0 to 10, found 11"),
        (route("to: a, retry: {methods: [get]}"), f"f:3:48: {R}.retry.methods[0]: expected a method such as `GET`, "
         'found "get"; methods are case-sensitive: did you mean `GET`?'),
        (route("to: a, retry: {backoff: {base: 1s}}"), f"f:3:38: {R}.retry.backoff: `base` is longer than `max`; "
         "the waits would begin above their bound"),
        (route("to: a, timeout: 1s, retry: {per_try_timeout: 2s}"), f"f:3:51: {R}.retry.per_try_timeout: longer than the "
         "route's `timeout`; `timeout` is for all attempts together, so this one would never end an attempt"),
        (route("to: a, retry: {max_body: 17MiB}"), f"f:3:48: {R}.retry.max_body: expected a size from `0` to `16MiB`, "
         'found "17MiB"'),
        (route("respond: {status: 200}, retry: {}"), f"f:3:47: {R}.retry: `retry` has no effect beside `respond`; remove it"),
        (route("to: a, mirror: bb"), f"f:3:38: {R}.mirror: there is no upstream `bb`; did you mean `b`?"),
        (route("to: a, mirror: {to: b, percent: 101%}"), f"f:3:55: {R}.mirror.percent: expected a percentage from `0%` to "
         '`100%`, found "101%"'),
        (route("to: a, fault: {}"), f"f:3:30: {R}.fault: expected `delay` or `abort`, found none"),
        (route("to: a, fault: {delay: {percent: 1}}"), f"f:3:38: {R}.fault.delay: the key `duration` is missing"),
        (route("to: a, fault: {abort: {}, header: {x: {}}}"), f"f:3:61: {R}.fault.header.x: expected one of {KINDS}, "
         "found none"),
        (route("to: a, rate_limit: {per: 1s}"), f"f:3:30: {R}.rate_limit: the key `requests` is missing"),
        (route("to: a, rate_limit: {requests: 0}"), f"f:3:53: {R}.rate_limit.requests: expected an integer from 1 to "
         "1000000000, found 0"),
        (route("to: a, rate_limit: {requests: 1, key: {header: x, cookie: y}}"), f"f:3:61: {R}.rate_limit.key: expected "
         "one of `cookie`, `header`, `query` and `source_ip`, found `cookie` and `header`"),
        ("service: s\ninbound: {routes: [{respond: {status: 200}}], circuit_breaker: {}}", "f:2:47: inbound.circuit_breaker: "
         "`circuit_breaker` has no effect without `app`; remove it"),
        ("service: s\ninbound: {app: 'h:1', rate_limit: {requests: 1, key: {}}}", "f:2:54: inbound.rate_limit.key: expected "
         "one of `cookie`, `header`, `query` and `source_ip`, found none"),
        ("service: s\noutbound: {}\ndrain: {timeout: 5s, delay: 5s}", "f:3:22: drain.delay: not shorter than "
         "`drain.timeout`; the delay is part of the timeout, and what is in flight needs the rest"),
        # --- protection of upstreams
        (upstream('dns: "h:1", circuit_breaker: {max_conections: 1}'), "f:3:47: upstreams.a.circuit_breaker.max_conections: "
         "unknown key `max_conections`; did you mean `max_connections`?"),
        (upstream('dns: "h:1", outlier_detection: {base_ejection_time: 1m, max_ejection_time: 30s}'), "f:3:73: upstreams.a."
         "outlier_detection.max_ejection_time: shorter than `base_ejection_time`; no ejection is shorter than the first"),
        (upstream('dns: "h:1", health_check: {expected_statuses: [200, 2x]}'), "f:3:69: upstreams.a.health_check."
         'expected_statuses[1]: expected a status from 200 to 599, or a class such as `2xx`, found "2x"'),
        (upstream('dns: "h:1", health_check: {jitter: 100%}'), "f:3:52: upstreams.a.health_check.jitter: expected less than "
         "100%; checks would follow without a pause"),
        (upstream('dns: "h:1", retry_budget: {min_per_second: -1}'), "f:3:60: upstreams.a.retry_budget.min_per_second: "
         "expected a number from 0 to 1e+06, found -1"),
        # --- telemetry
        (log("format: '%REQ(X)%'"), "f:3:34: telemetry.access_log.format: expected `json`, `off`, or a template such as "
         '`{start_time} {method} {path} {response_code}`, found "%REQ(X)%"; names stand in braces: `{start_time}`'),
        (log("format: jsn"), "f:3:34: telemetry.access_log.format: expected `json`, `off`, or a template such as "
         '`{start_time} {method} {path} {response_code}`, found "jsn"; did you mean `json`?'),
        (log("format: '{respnse_code}'"), "f:3:34: telemetry.access_log.format: the template names `{respnse_code}`, "
         "which there is not; did you mean `response_code`?"),
        (log("format: '{method} }'"), "f:3:34: telemetry.access_log.format: the template has a `}` that stands alone; "
         "the character itself is `}}`"),
        (log("when: {status: '>=4xx'}"), "f:3:41: telemetry.access_log.when.status: expected a status or a range such as "
         '`>=400`, `500-503`, `5xx` or `404`, found ">=4xx"'),
        (log("when: {status: [200, 503-500]}"), "f:3:47: telemetry.access_log.when.status[1]: expected a status or a "
         'range such as `>=400`, `500-503`, `5xx` or `404`, found "503-500"; statuses go from 100 to 599, the smaller '
         "one first"),
        (log("when: {slower: 1s}"), "f:3:33: telemetry.access_log.when.slower: unknown key `slower`; did you mean "
         "`slower_than`?"),
        ("service: s\noutbound: {}\ntelemetry: {traces: {propagators: [b3, b3mult]}}", "f:3:40: telemetry.traces."
         'propagators[1]: expected `tracecontext`, `b3`, `b3multi` or `xray`, found "b3mult"; did you mean `b3multi`?'),
        ("service: s\noutbound: {}\ntelemetry: {traces: {propagators: [b3, b3]}}", "f:3:35: telemetry.traces."
         "propagators: `b3` comes twice; remove one"),
        ("service: s\noutbound: {}\ntelemetry: {metrics: {compat: consul}}", "f:3:31: telemetry.metrics.compat: "
         'expected `envoy`, `istio`, `linkerd` or `appmesh`, found "consul"'),
        # --- upstreams
        (upstream(""), "f:3:13: upstreams.a: expected one of `endpoints`, `dns` and `discover`, found none; "
         'such as `endpoints: ["10.0.0.11:8080"]` or `dns: name:8080`'),
        (upstream('dns: "h:1", endpoints: []'), "f:3:13: upstreams.a: expected one of `endpoints`, `dns` and "
         "`discover`, found `endpoints` and `dns`"),
        (upstream('dns: "h:1", discover: a'), "f:3:13: upstreams.a: expected one of `endpoints`, `dns` and "
         "`discover`, found `dns` and `discover`"),
        (upstream("discover: {}"), "f:3:17: upstreams.a.discover: expected one of `name` and `file`, found neither"),
        (upstream("discover: {name: a, file: b}"), "f:3:17: upstreams.a.discover: expected one of `name` and `file`, "
         "found both"),
        (upstream("discover: {file: ''}"), "f:3:34: upstreams.a.discover.file: expected the path of a file, "
         'found ""'),
        (upstream("discover: a b"), "f:3:27: upstreams.a.discover: expected an upstream's name: up to 128 letters, "
         'digits and `_.-`, found "a b"'),
        (upstream('endpoints: ["h:1", "H:1"]'), "f:3:29: upstreams.a.endpoints[0]: `h:1` comes 2 times; "
         "use `weight` to give it more"),
        (upstream('endpoints: [{address: "h:1", weight: 0}]'), "f:3:28: upstreams.a.endpoints: the weights sum to 0; "
         "give at least one endpoint a positive weight"),
        (upstream('dns: "h:1", load_balancing: leastrequest'), "f:3:45: upstreams.a.load_balancing: expected "
         '`round_robin`, `least_request`, `random` or `peak_ewma`, found "leastrequest"; did you mean `least_request`?'),
        (upstream('dns: "h:1", load_balancing: {hsh: {cookie: a}}'), "f:3:46: upstreams.a.load_balancing.hsh: unknown "
         "key `hsh`; did you mean `hash`?"),
        (upstream('dns: "h:1", load_balancing: {hash: {cookie: a, query: b}}'), "f:3:52: upstreams.a.load_balancing."
         "hash: expected one of `cookie`, `header`, `query` and `source_ip`, found `cookie` and `query`"),
        ("service: s\noutbound: {}\nupstreams: {a: {dns: 'h:1'}, B: {dns: 'h:1', hosts: [x, A]}}",
         "f:3:57: upstreams.B.hosts[1]: the host `a` already belongs to the upstream `a`"),
        ("service: s\noutbound: {}\nupstreams: {a: {dns: 'h:1', hosts: ['X:090', x]}, b: {dns: 'h:1', hosts: ['x:91', 'x:90']}}",
         "f:3:83: upstreams.b.hosts[1]: the host `x:90` already belongs to the upstream `a`"),
        ("service: s\noutbound: {}\nupstreams: {x: {dns: 'h:1', hosts: a}, a: {dns: 'h:1'}}",
         "f:3:40: upstreams.a: the host `a` already belongs to the upstream `x`; an upstream without `hosts` is called "
         "by its own name; `hosts: []` gives it none"),
        ("service: s\noutbound: {}\nupstreams: {passthrough: {dns: 'h:1'}}", "f:3:13: upstreams.passthrough: the name "
         "`passthrough` means requests that are sent as addressed; rename it, and keep `hosts: [passthrough]`"),
        ("service: s\ninbound: {app: 'h:1'}\nupstreams: {app: {dns: 'h:1'}}", "f:3:13: upstreams.app: the name `app` "
         "means the app behind `inbound.app`; rename it, and keep `hosts: [app]`"),
        # --- tests
        ("service: s\noutbound: {}\ntests: [{name: t, request: {url: 'http://x/'}, expect: {to: x}}]",
         "f:3:61: tests[0].expect.to: there is no upstream `x`"),
        ("service: s\noutbound: {}\ntests: [{name: t, request: {url: 'http://x/'}, expect: {route: x}}]",
         "f:3:64: tests[0].expect.route: there is no route `x`"),
        ("service: s\noutbound: {}\ntests: [{name: t, request: {url: 'http://x/'}, expect: {}}]",
         "f:3:48: tests[0].expect: expected `route`, `to`, `status`, `authorization`, `rule`, `split`, `sent`, `timeout` or `retry`, found none"),
        ("service: s\noutbound: {}\ntests: [{name: t, expect: {status: 404}}]",
         "f:3:9: tests[0]: the key `request` is missing"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_once_at_its_place(text: str, expected: str) -> None:
    """One mistake is one line: file, line, column, path, what, and what to do; and nothing that only follows from it."""
    assert complaints(text) == [expected]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("route.retry", route("to: a, retry: {}"), f"f:3:30: {R}.retry: `retry`"),
        ("route.mirror", route("to: a, mirror: nowhere"), f"f:3:30: {R}.mirror: `mirror`"),
        ("upstream.health_check", upstream('dns: "h:1", health_check: []'), "f:3:29: upstreams.a.health_check: `health_check`"),
        ("drain.delay", "service: s\noutbound: {}\ndrain: {delay: 1s}", "f:3:9: drain.delay: `delay`"),
        ("load_balancing.peak_ewma", upstream('dns: "h:1", load_balancing: peak_ewma'),
         "f:3:45: upstreams.a.load_balancing: `peak_ewma`"),
    ],
)  # fmt: skip
def test_what_is_not_in_force_yet_is_refused_whatever_its_value(
    name: str, text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its key, once: a limit that is read and not kept is worse than none."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset({name}))
    assert complaints(text) == [
        f"{expected} is not supported yet by this version; remove it; a later version will read it"
    ]


def test_all_mistakes_of_a_file_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong values, broken rules and unset variables, in the order of the file."""
    monkeypatch.setattr(unsupported, "NOT_YET", frozenset({"route.retry"}))
    said = complaints(
        "service: s\n"
        "inbond: {}\n"
        "outbound:\n"
        "  routes:\n"
        "    - {name: x, to: nowhere, timeout: 30}\n"
        "    - {name: x, to: a, retry: {}}\n"
        "    - {to: {a: 0}}\n"
        "upstreams:\n"
        "  a: {dns: nope}\n"
        "  b: {dns: '${HOST}:80'}\n"
        "tests:\n"
        "  - {name: t, request: {url: x}, expect: {route: y}}\n"
    )
    places = [line.split(" ", 2)[:2] for line in said]
    assert places == [
        ["f:2:1:", "inbond:"],
        ["f:5:21:", "outbound.routes[0].to:"],
        ["f:5:39:", "outbound.routes[0].timeout:"],
        ["f:6:14:", "outbound.routes[1].name:"],
        ["f:6:24:", "outbound.routes[1].retry:"],
        ["f:7:12:", "outbound.routes[2].to:"],
        ["f:9:12:", "upstreams.a.dns:"],
        ["f:10:12:", "upstreams.b.dns:"],
        ["f:12:30:", "tests[0].request.url:"],
        ["f:12:50:", "tests[0].expect.route:"],
    ]


def test_a_wrong_value_is_not_told_again_by_the_rules_around_it() -> None:
    """A route whose `to` cannot be read does not also lack an action; a listener that cannot be read clashes with none."""
    assert len(complaints(route("to: {a: x}"))) == 1
    assert len(complaints(route("too: a"))) == 1
    assert len(complaints("service: s\noutbound: {listen: 5}\nadmin: {listen: '127.0.0.1:15001'}")) == 1
    assert len(complaints("service: s\ninbound: {ap: 'h:1'}")) == 1
    assert len(complaints("service: s\noutbound: {routes: [{to: a}]}\nupstreams: {a: 5}")) == 1
    assert len(complaints("service: s\noutbound: {}\nadmin: {listen: 1}\ntelemetry: {metrics: {listen: 2}}")) == 2


def test_listeners_on_different_families_or_chosen_ports_do_not_clash() -> None:
    """IPv4 and IPv6 have ports of their own, and port 0 is a new one each time."""
    text = (
        "service: s\ninbound: {app: 'h:1', listen: ['0.0.0.0:1', '[::]:1', '127.0.0.1:0']}\n"
        "outbound: {listen: ['127.0.0.1:2', '127.0.0.2:2', '127.0.0.1:0']}\nadmin: {listen: '127.0.0.1:0'}\n"
    )
    assert load_text(text.encode(), "f", {}).admin.listen == ["127.0.0.1:0"]


def test_an_inbound_route_needs_no_action_when_there_is_an_app() -> None:
    """It leads to the app; without an app it must lead somewhere."""
    text = "service: s\ninbound: {%s, routes: [{name: r, timeout: 1s}]}"
    assert load_text((text % "app: 'h:1'").encode(), "f", {}).inbound is not None
    assert "or set `inbound.app`" in complaints(text % "listen: '127.0.0.1:0'")[0]


def test_a_file_of_mistakes_is_told_in_bounded_time() -> None:
    """Hints are looked up once a word, not once a place."""
    upstreams = ", ".join(f"u{number}: {{dns: 'h:1'}}" for number in range(500))
    routes = ", ".join("{to: u, timeout: 5}" for _ in range(2000))
    said = complaints(f"service: s\nupstreams: {{{upstreams}}}\noutbound: {{routes: [{routes}]}}")
    assert len(said) == 4000


def warnings(routes: str) -> list[str]:
    """What is said of a file with these outbound routes, which begin on line 4, and is no problem."""
    text = f'service: s\nupstreams: {{a: {{endpoints: ["h:1"]}}}}\noutbound:\n  routes:\n{routes}'
    source = make_source("f", text.encode())
    return [str(warning) for warning in load_source(source, {}).warnings]


SEE_OTHER = "    - {%sredirect: {status: 303}}\n"


@pytest.mark.parametrize(
    "routes",
    [
        SEE_OTHER % "match: {methods: [POST]}, ",
        SEE_OTHER % "match: {path: /a, methods: [POST, PUT]}, ",
        "    - {match: {methods: [GET]}, to: a}\n" + SEE_OTHER % "",
        "    - {match: {path: /a}, to: a}\n" + SEE_OTHER % "match: {path: /a}, ",
        "    - {match: {path: {prefix: /}}, to: a}\n" + SEE_OTHER % "match: {path: /a}, ",
        "    - {match: {cookies: {seen: {present: true}}}, to: a}\n" + SEE_OTHER % "match: {path: /a}, ",
        "    - {match: {path: /a}, redirect: {path: /b, status: 303}}\n",
    ],
)
def test_a_303_alone_is_how_a_post_is_answered(routes: str) -> None:
    """Its GET goes to another route: one behind it that it leaves the GET to, or one before it."""
    assert warnings(routes) == []


@pytest.mark.parametrize(
    "routes",
    [
        SEE_OTHER % "",
        SEE_OTHER % "match: {path: /a}, ",
        SEE_OTHER % "match: [{path: /a, methods: [POST]}, {path: /b, methods: [GET, POST]}], ",
        "    - {match: {path: /b}, to: a}\n" + SEE_OTHER % "match: {path: /a}, ",
        "    - {match: {host: x}, to: a}\n" + SEE_OTHER % "match: {host: y}, ",
        "    - {match: {methods: [POST]}, to: a}\n" + SEE_OTHER % "",
    ],
)
def test_a_303_alone_that_takes_its_own_get_is_a_warning(routes: str) -> None:
    """It is at its place, says what to do, and the file is used all the same."""
    (warning,) = warnings(routes)
    line = 3 + routes.count("\n") + 1
    column = routes.splitlines()[-1].index("redirect: ") + len("redirect: ") + 1
    index = routes.count("\n") - 1
    assert warning == (
        f"f:{line}:{column}: warning: outbound.routes[{index}].redirect: leads to itself: the GET that follows is answered by "
        "this route again; give it `methods: [POST]`, or put a route that takes the GET before it"
    )


def test_a_match_on_a_field_that_is_dropped_is_a_warning() -> None:
    """Only where names with `_` are dropped, and at the name."""
    routes = "    - {match: {headers: {x_user: a, x-user: b}}, to: a}\n"
    assert warnings(routes) == []
    assert warnings(routes + "limits: {headers_with_underscores: drop}\n") == [
        "f:5:26: warning: outbound.routes[0].match.headers.x_user: requests come here without `x_user`: "
        "`limits.headers_with_underscores` is `drop`; spell it with `-`, or let such fields pass"
    ]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{path: {template: '/a/{b}'}}", []),
        ("[{path: {template: '/a/{b}'}, methods: [GET]}, {path: {template: '/a/{b}'}, headers: {x: y}}]", []),
        ("[{path: {template: '/a/{b}', invert: true}}, {path: /a}]", []),
        ("[{path: {template: '/a/{b}'}}, {path: {template: '/a/{c}'}}]", ["match: `http.route` is the route's name"]),
        ("[{path: {template: '/a/{b}'}}, {path: /a}]", ["match: `http.route` is the route's name"]),
        ("[{path: {template: '/a/{b}'}}, {methods: [GET]}]", ["match: `http.route` is the route's name"]),
        ("{path: {template: '/a/:b'}}", ["template: `:b` in a template stands for itself; did you mean `{b}`?"]),
        ("{path: {template: '/a/**'}}", ["template: `**` in a template stands for itself; did you mean `{rest...}`?"]),
        ("{path: {template: '/a/*/b'}}", ["template: `*` in a template stands for itself; did you mean `{name}`?"]),
        ("{path: {template: '/a/x:b'}}", []),
    ],
)
def test_templates_of_which_nothing_comes_are_warnings(match: str, expected: list[str]) -> None:
    """Names in another notation, and templates that `http.route` cannot be for all of a route."""
    found = warnings(f"    - {{match: {match}, to: a}}\n")
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True))
