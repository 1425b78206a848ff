-- Makes the hold of a claimed offer, unless it is there. Its seats are reserved in Postgres: none is taken here.
-- KEYS  inventory, holds, the hold, uh
-- ARGV  hold id, user, items, tickets, total, currency, created ms, deadline ms
-- Says  {rebuilding} {there} {over} {made}
local ev, holds, hold, uh = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if not is_ready(ev) then return { 'rebuilding' } end
if redis.call('EXISTS', hold) == 1 then return { 'there' } end
if now_ms() >= tonumber(ARGV[8]) then return { 'over' } end
for tt, q in string.gmatch(ARGV[3], '([^:,]+):(%d+):') do redis.call('HINCRBY', ev, 'o:' .. tt, q) end
redis.call('HINCRBY', uh, ARGV[2], ARGV[4])
redis.call('HSET', hold, 'u', ARGV[2], 's', 'held', 'i', ARGV[3], 'q', ARGV[4], 't', ARGV[5], 'cur', ARGV[6],
  'c', ARGV[7], 'x', ARGV[8], 'a', 0, 'of', 1)
redis.call('ZADD', holds, ARGV[8], ARGV[1])
count_holds(ev, redis.call('HGET', ev, 'epoch'), now_ms(), 1)
return { 'made' }
