-- Counts one pool.
-- KEYS: active, suspects, due, dead, workers, paused, retrying, tally (followed by a time slot)
-- ARGV: meta prefix, in-flight prefix, worker prefix, most workers to list, slots of ten seconds to sum up
-- Answers {now in ms, waiting, scheduled, in flight, dead, at of the oldest waiting, paused,
--   {{worker, last seen in s, version, started at in ms} …}, waiting for a retry, done in the last minute,
--   {field of the tally, times, …}}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = now
for _, key in ipairs({ KEYS[1], KEYS[2] }) do
  local id = redis.call('LINDEX', key, 0)
  local at = id and tonumber(redis.call('HGET', ARGV[1] .. id, 'at'))
  if at and at < oldest then
    oldest = at
  end
end
local running, workers = 0, {}
local listed = redis.call('ZREVRANGE', KEYS[5], 0, ARGV[4] - 1, 'WITHSCORES')
for i = 1, #listed, 2 do
  running = running + redis.call('SCARD', ARGV[2] .. listed[i])
  local known = redis.call('HMGET', ARGV[3] .. listed[i], 'version', 'started_at')
  workers[#workers + 1] = { listed[i], listed[i + 1], known[1] or '', known[2] or '0' }
end
-- The oldest of a minute's slots counts by as much of it as is in the minute.
local slot, done, sums = math.floor(now / 10000), 0, {}
for age = 0, ARGV[5] - 1 do
  local fields = redis.call('HGETALL', KEYS[8] .. (slot - age))
  for i = 1, #fields, 2 do
    local times = tonumber(fields[i + 1])
    sums[fields[i]] = (sums[fields[i]] or 0) + times
    if fields[i] == 'done' and age <= 6 then
      done = done + times * (age < 6 and 1 or 1 - now % 10000 / 10000)
    end
  end
end
local tally = {}
for field, times in pairs(sums) do
  tally[#tally + 1] = field
  tally[#tally + 1] = times
end
return { now, redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[3]), running,
  redis.call('ZCARD', KEYS[4]), oldest, redis.call('EXISTS', KEYS[6]), workers, redis.call('SCARD', KEYS[7]),
  math.floor(done + 0.5), tally }
