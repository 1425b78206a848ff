-- Forgets counts of holds that have been kept elsewhere, unless they have grown since.
-- KEYS  counts
-- ARGV  for each: the count, how many it was
-- Says  how many are forgotten
local forgotten = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    forgotten = forgotten + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return forgotten
