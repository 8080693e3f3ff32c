-- Pages, a cached view of many entries, and a probe, by many clients; at the end what failed, as one line of JSON.
local paths = {"/docs", "/api/v1/notices?page=", "/health/live", "/login", "/api/v1/notices?page="}
local turn = 0

request = function()
    turn = turn + 1
    local path = paths[turn % #paths + 1]
    if path:sub(-1) == "=" then path = path .. (turn % 50 + 1) end
    local client = string.format("10.%d.%d.%d", turn % 7, math.floor(turn / 7) % 250, math.floor(turn / 1750) % 250)
    return wrk.format("GET", path, {["X-Forwarded-For"] = client})
end

done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '{"requests": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, "longest_ms": %d}\n',
        summary.requests, e.status, e.connect, e.read, e.write, e.timeout, latency.max / 1000
    ))
end
