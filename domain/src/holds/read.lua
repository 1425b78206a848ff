-- Reads a hold; one that is overdue ends here.
-- KEYS  inventory, holds, the hold, uh
-- ARGV  hold id
-- Says  {} or {user, status, items, total, currency, created ms, deadline ms, confirms so far, payment, waiting, confirming since ms,
--       1 if made out of an offer or 0}
local ev, holds, hold, uh = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local f = redis.call('HMGET', hold, 'u', 's', 'i', 't', 'cur', 'c', 'x', 'a', 'p', 'r', 'cs', 'q', 'of')
if not f[1] then return {} end
if f[2] == 'held' then
  local now = now_ms()
  if now >= tonumber(f[7]) then
    give_back(ev, uh, f[1], f[3], f[12], f[13])
    redis.call('ZREM', holds, ARGV[1])
    close(hold, 'expired', now, f[7])
    f[2] = 'expired'
  end
end
return { f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9] or '', f[10] or '', f[11] or '0', f[13] or '0' }
