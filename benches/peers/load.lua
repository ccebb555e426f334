-- What wrk sends: CASE is "get", "post" or "close". At its end it prints one line that the script reads.
local case = os.getenv("CASE")

if case == "post" then
    wrk.method = "POST"
    wrk.body = string.rep("a", 4096)
elseif case == "close" then
    wrk.headers["Connection"] = "close"
end

function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("RESULT %d %d %d\n", summary.requests, failed, summary.duration))
end
