-- Takes seats to be offered, into a hold of nobody's: it runs out like any other if the offers are not made.
-- KEYS  inventory, holds, the hold, uh
-- ARGV  hold id, nobody, ticket type, the least and the most to take, life of the hold (ms),
--       1 to take what is the public's too or 0
-- Says  {rebuilding} {unknown} {short} {taken, how many, 1 if that is all there was or 0}
local ev, holds, hold, uh = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local tt, least, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if not is_ready(ev) then return { 'rebuilding' } end
local all = free(ev, tt)
if not all then return { 'unknown' } end
local now = now_ms()
if expire(ev, holds, uh, now, now, 500) > 0 then all = free(ev, tt) end
local publics, waited_for = public(ev, tt)
local share = all - math.max(0, publics)
local there = ARGV[7] == '1' and all or share
local n = math.min(there, most)
if n < least then return { 'short' } end
redis.call('HINCRBY', ev, 'h:' .. tt, n)
if waited_for and n > share then redis.call('HINCRBY', ev, 'pb:' .. tt, share - n) end
redis.call('HINCRBY', uh, ARGV[2], n)
local deadline = now + ARGV[6]
redis.call('HSET', hold, 'u', ARGV[2], 's', 'held', 'i', tt .. ':' .. n .. ':0', 'q', n, 't', 0,
  'cur', redis.call('HGET', ev, 'cur'), 'c', now, 'x', deadline, 'a', 0)
redis.call('ZADD', holds, deadline, ARGV[1])
return { 'taken', n, n == there and 1 or 0 }
