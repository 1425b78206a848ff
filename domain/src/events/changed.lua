-- Forgets the snapshots of changed events, keeps their versions against slow readers, and tells every process.
-- KEYS  generation, then a snapshot for each event
-- ARGV  channel, then id and version for each event
-- Says  the new generation
local generation = redis.call('INCR', KEYS[1])
local message = { generation }
for i = 2, #KEYS do
  local id, version = ARGV[2 * i - 2], ARGV[2 * i - 1]
  local known = redis.call('HGET', KEYS[i], 'version')
  if not known or tonumber(known) < tonumber(version) then
    redis.call('HSET', KEYS[i], 'version', version)
    redis.call('HDEL', KEYS[i], 'body')
    redis.call('EXPIRE', KEYS[i], 60)
  end
  message[#message + 1] = id
end
redis.call('PUBLISH', ARGV[1], table.concat(message, ' '))
return generation
