-- Lowers a capacity before Postgres does, so that no hold is placed above it in between. The caller has the row
-- locked: these are its values and the version that its commit will have.
-- KEYS  inventory
-- ARGV  ticket type, new capacity, sold, reserved, price, version, waited for
-- Says  {rebuilding} {in_use, seats in use} {lowered}
local ev, tt = KEYS[1], ARGV[1]
if not is_ready(ev) then return { 'rebuilding' } end
local in_use = ARGV[3] + ARGV[4] + (redis.call('HGET', ev, 'h:' .. tt) or 0)
if tonumber(ARGV[2]) < in_use then return { 'in_use', in_use } end
apply_seats(ev, tt, ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return { 'lowered' }
