-- Counts one pool.
-- KEYS: active, suspects, due, dead, workers, paused
-- ARGV: meta prefix, in-flight prefix, worker prefix, most workers to list
-- Answers {now in ms, waiting, scheduled, in flight, dead, at of the oldest waiting, paused,
--   {{worker, last seen in s, version, started at in ms} …}}.
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
return { now, redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]), redis.call('ZCARD', KEYS[3]), running,
  redis.call('ZCARD', KEYS[4]), oldest, redis.call('EXISTS', KEYS[6]), workers }
