-- The load: GETs of browser shape from ten thousand users, a tenth of them beta users.
--
-- Every user has a cookie and a target of its own, so that no proxy gains from having seen the same line
-- a moment ago more than it would in front of real users; what real browsers share (User-Agent, Accept...)
-- is shared here too. Eight headers, Host among them. Arguments after "--": the number of users, the seed.

local agents = {
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
  "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
  "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
  "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
}
local languages = { "en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9,en-US;q=0.8", "en-GB,en;q=0.9" }

local requests = {}
local at = 0

function init(args)
  local users = tonumber(args[1]) or 10000
  math.randomseed(tonumber(args[2]) or 1)
  for user = 1, users do
    local item = math.random(1, 5000)
    local session = string.format("%08x%08x", math.random(0, 0x7fffffff), math.random(0, 0x7fffffff))
    local cookie = string.format("uid=u%05d; session=%s; theme=dark", user, session)
    if user % 10 == 0 then
      cookie = string.format("uid=u%05d; BETA_USER=true; session=%s; theme=dark", user, session)
    end
    requests[user] = table.concat({
      string.format("GET /v1/items/%d?user=%d HTTP/1.1", item, user),
      "Host: recommendations",
      "User-Agent: " .. agents[user % #agents + 1],
      "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
      "Accept-Language: " .. languages[user % #languages + 1],
      "Accept-Encoding: gzip, deflate, br, zstd",
      "Referer: http://storefront/catalogue/" .. item % 200,
      "Cookie: " .. cookie,
      "Cache-Control: no-cache",
      "", "",
    }, "\r\n")
  end
  at = math.random(1, users)
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "duration_us": %d, "bytes": %d, "non_2xx": %d, "connect": %d, "read": %d, "write": %d, '
      .. '"timeout": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration, summary.bytes, e.status, e.connect, e.read, e.write, e.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
