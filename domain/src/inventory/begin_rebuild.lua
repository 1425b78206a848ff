-- Opens a rebuild: from here until its install no hold is placed, and every row that arrives is kept if it is newer.
-- KEYS  inventory
-- ARGV  epoch
-- Says  {superseded} {begun, 1 if the inventory was missing or 0}
local ev = KEYS[1]
local f = redis.call('HMGET', ev, 'state', 'epoch', 'fresh')
if f[2] and tonumber(f[2]) >= tonumber(ARGV[1]) then return { 'superseded' } end
local fresh = (not f[1] or f[3] == '1') and 1 or 0
redis.call('HSET', ev, 'state', 'rebuilding', 'epoch', ARGV[1], 'fresh', fresh)
return { 'begun', fresh }
