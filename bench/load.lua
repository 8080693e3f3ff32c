-- wrk's script: sends what METHOD and BODY say, and prints what came of it as JSON. Latencies are in ms.
wrk.method = os.getenv("METHOD")
wrk.body = os.getenv("BODY")

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers": %d, "refused": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "broken": %d}\n',
    summary.requests, errors.status, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout))
end
