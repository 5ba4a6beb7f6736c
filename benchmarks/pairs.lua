-- wrk's script: acquires a lease and releases it, in a loop.
-- Each request has a number as its X-Request-ID, which the answer repeats, because wrk does not tell a script which
-- request an answer belongs to. Environment: BENCH_PORTS, BENCH_TOKEN, BENCH_BODY.
local ffi = require("ffi")
ffi.cdef([[
    struct bench_time { long seconds; long nanoseconds; };
    int clock_gettime(int clock, struct bench_time *time);
]])
local MONOTONIC, SLICE, FINENESS = 1, 0.25, 100
local now_is = ffi.new("struct bench_time")
local floor, log, find, sub = math.floor, math.log, string.find, string.sub

local function clock()
    ffi.C.clock_gettime(MONOTONIC, now_is)
    return tonumber(now_is.seconds) + tonumber(now_is.nanoseconds) * 1e-9
end

-- Each thread has its own Lua state. Threads take the ports in turn.
local threads = {}

function setup(thread)
    local ports = {}
    for port in os.getenv("BENCH_PORTS"):gmatch("%d+") do
        ports[#ports + 1] = port
    end
    thread.addr = wrk.lookup("127.0.0.1", ports[#threads % #ports + 1])[1]
    threads[#threads + 1] = thread
end

local head = " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " .. os.getenv("BENCH_TOKEN")
local body = os.getenv("BENCH_BODY")
local acquire = "POST /api/v1/leases" .. head .. "\r\nContent-Type: application/json\r\nContent-Length: " .. #body
    .. "\r\nX-Request-ID: "
local acquire_end = "\r\n\r\n" .. body
local release = "POST /api/v1/leases/"
local release_head = "/release" .. head .. "\r\nContent-Length: 0\r\nX-Request-ID: "

local started, releasing, free, numbers = {}, {}, {}, 0 -- by number: time, and kind of request; numbers to use again
local held, first, last = {}, 1, 0 -- leases to release, a queue
local slice, pairs_done, failures = 0, 0, 0
local acquires, releases = {}, {} -- histograms of the slice: 1 % wide buckets of microseconds
report, failure = "", "" -- read by done(), which sees globals only

local function histogram(counts)
    local parts = {}
    for bucket, count in pairs(counts) do
        parts[#parts + 1] = bucket .. ":" .. count
    end
    return table.concat(parts, ",")
end

-- The last slice is never reported, because it is not whole.
local function turn_to(next_slice)
    if slice ~= 0 then
        report = report .. "slice " .. slice .. " " .. pairs_done .. " " .. failures .. " a" .. histogram(acquires)
            .. " r" .. histogram(releases) .. "\n"
    end
    slice, pairs_done, failures, acquires, releases = next_slice, 0, 0, {}, {}
end

function request()
    local number = free[#free]
    if number then
        free[#free] = nil
    else
        numbers = numbers + 1
        number = "bench-" .. numbers
    end
    local lease = held[first]
    releasing[number] = lease ~= nil
    started[number] = clock()
    if lease == nil then
        return acquire .. number .. acquire_end
    end
    held[first] = nil
    first = first + 1
    return release .. lease .. release_head .. number .. "\r\n\r\n"
end

function response(status, headers, answer)
    local now = clock()
    local this_slice = floor(now / SLICE)
    if this_slice ~= slice then
        turn_to(this_slice)
    end
    local number = headers["x-request-id"] or headers["X-Request-ID"]
    if number then
        free[#free + 1] = number
    end
    if (status ~= 201 and status ~= 200) or not number then
        failures = failures + 1
        if failure == "" then
            failure = status .. " " .. sub(answer, 1, 300)
        end
        return
    end
    local bucket = floor(log((now - started[number]) * 1e6) * FINENESS)
    if releasing[number] then
        pairs_done = pairs_done + 1
        releases[bucket] = (releases[bucket] or 0) + 1
    else
        local _, id = find(answer, '"id":"', 1, true)
        last = last + 1
        held[last] = sub(answer, id + 1, id + 36)
        acquires[bucket] = (acquires[bucket] or 0) + 1
    end
end

function done(summary)
    local errors = summary.errors
    io.write("\nsocket ", errors.connect + errors.read + errors.write, " timeout ", errors.timeout, "\n")
    for _, thread in ipairs(threads) do
        io.write(thread:get("report"), "end\n")
        local text = thread:get("failure")
        if text ~= "" then
            io.write("failure ", text, "\n")
        end
    end
end
