-- Says that a worker lives, gives back the jobs of those that do not, and bounds the dead set.
-- KEYS: workers, active, suspects, dead
-- ARGV: worker, worker prefix, in-flight prefix, meta prefix, data key, orphaned after (s), heartbeat (s),
--   crashes that make a suspect, most jobs to move, version, started at (ms),
--   most dead to keep
-- Answers how many jobs were moved.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.3f', now), ARGV[1])
redis.call('HSET', ARGV[2] .. ARGV[1], 'version', ARGV[10], 'started_at', ARGV[11])

local over = redis.call('ZCARD', KEYS[4]) - ARGV[12]
for _, id in ipairs(over > 0 and redis.call('ZRANGE', KEYS[4], 0, math.min(over, 500) - 1) or {}) do
  redis.call('ZREM', KEYS[4], id)
  redis.call('HDEL', ARGV[5], id)
  redis.call('DEL', ARGV[4] .. id)
end

-- After a gap of its own a worker judges nobody: the gap was Redis's, and the others are about to beat as well.
if not before or now - tonumber(before) > 2 * ARGV[7] then
  return 0
end
local moved, most = 0, tonumber(ARGV[9])
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[6], 'LIMIT', 0, 10)) do
  local inflight = ARGV[3] .. worker
  local ids = moved < most and redis.call('SPOP', inflight, most - moved) or {}
  for _, id in ipairs(ids) do
    if redis.call('HEXISTS', ARGV[5], id) == 1 then
      local crashes = redis.call('HINCRBY', ARGV[4] .. id, 'crashes', 1)
      redis.call('HSET', ARGV[4] .. id, 'status', 'Pending')
      if crashes >= tonumber(ARGV[8]) then
        redis.call('RPUSH', KEYS[3], id)
      else
        redis.call('LPUSH', KEYS[2], id)
      end
    end
  end
  moved = moved + #ids
  if redis.call('EXISTS', inflight) == 0 then
    redis.call('ZREM', KEYS[1], worker)
    redis.call('DEL', ARGV[2] .. worker)
  end
end
return moved
