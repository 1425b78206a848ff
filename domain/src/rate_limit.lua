-- Takes from several rate limits at once, or from none (GCRA: each key keeps the time at which it is full again).
-- KEYS: one a limit. ARGV: three a limit: burst, microseconds in which a whole burst comes back, cost.
-- Answers {1 or 0, then two a limit: what remains, microseconds until it is full again}, and where it refuses a
-- third a limit: microseconds until the cost could be taken. A negative cost gives back.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local allowed, after = 1, {}
for i, key in ipairs(KEYS) do
    local burst, window, cost = tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1]), tonumber(ARGV[i * 3])
    local full_at = math.max(tonumber(redis.call('GET', key) or '0'), now)
    local wanted = math.max(full_at + cost * window / burst, now)
    after[i] = { had = full_at, wanted = wanted, wait = wanted - now - window }
    if cost > 0 and after[i].wait > 0 then
        allowed = 0
    end
end
local answer = { allowed }
for i, key in ipairs(KEYS) do
    local burst, window = tonumber(ARGV[i * 3 - 2]), tonumber(ARGV[i * 3 - 1])
    local full_at = allowed == 1 and after[i].wanted or after[i].had
    if allowed == 1 then
        if full_at > now then
            redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
        else
            redis.call('DEL', key)
        end
    end
    -- A microsecond's rounding is not a unit less.
    answer[#answer + 1] = math.max(0, math.floor((now + window - full_at) * burst / window + 0.001))
    answer[#answer + 1] = math.ceil(full_at - now)
    answer[#answer + 1] = math.max(0, math.ceil(after[i].wait))
end
return answer
