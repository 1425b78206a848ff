-- Ends a hold at its owner's wish.
-- KEYS  inventory, holds, the hold, uh
-- ARGV  hold id, user
-- Says  {not_found} {busy, status} {already or released, 1 if made out of an offer or 0}
local ev, holds, hold, uh = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local f = redis.call('HMGET', hold, 'u', 's', 'i', 'q', 'x', 'of')
if f[1] ~= ARGV[2] then return { 'not_found' } end
if f[2] == 'confirming' or f[2] == 'confirmed' then return { 'busy', f[2] } end
-- Whoever ended it may not have lived to give back the seats of its offer: the next one does.
if f[2] ~= 'held' then return { 'already', f[6] or '0' } end
local now = now_ms()
give_back(ev, uh, f[1], f[3], f[4], f[6])
redis.call('ZREM', holds, ARGV[1])
local overdue = now >= tonumber(f[5])
close(hold, overdue and 'expired' or 'released', now, f[5])
return { overdue and 'already' or 'released', f[6] or '0' }
