-- Appends amendments to the stream and drops those that no living token needs.
-- KEYS: the stream. ARGV: seconds to keep, then one JSON text an amendment. Answers how many were appended.
local horizon = (tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])) * 1000
for i = 2, #ARGV do
    redis.call('XADD', KEYS[1], 'MINID', '~', horizon, '*', 'a', ARGV[i])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return #ARGV - 1
