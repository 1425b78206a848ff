-- Keeps a snapshot of an event unless it is older than what is known of it.
-- KEYS  snapshot
-- ARGV  version, body, seconds to keep it
-- Says  nothing
local known = redis.call('HGET', KEYS[1], 'version')
if known and tonumber(known) > tonumber(ARGV[1]) then return end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'body', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
