-- Ends holds whose deadline has passed (or, for a cancelled event, all that are `held`), a bounded number.
-- KEYS  inventory, holds, uh
-- ARGV  the most to end, 1 for all whatever their deadline or 0
-- Says  {ended, 1 if more are due now or 0, second of the next sweep to enqueue or 0}
local ev, holds, uh = KEYS[1], KEYS[2], KEYS[3]
local now = now_ms()
local up_to = ARGV[2] == '1' and '+inf' or now
local ended = expire(ev, holds, uh, up_to, now, ARGV[1])
local next = redis.call('ZRANGE', holds, 0, 0, 'WITHSCORES')
if not next[1] then
  redis.call('HDEL', ev, 'sw')
  return { ended, 0, 0 }
end
if ARGV[2] == '1' then return { ended, 1, 0 } end
local deadline = tonumber(next[2])
if deadline <= now then return { ended, 1, 0 } end
local second = math.ceil(deadline / 1000)
redis.call('HSET', ev, 'sw', second)
return { ended, 0, second }
