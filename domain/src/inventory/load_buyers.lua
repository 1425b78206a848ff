-- Takes rows of event_buyers, each only if it is not older than the one here.
-- KEYS  us
-- ARGV  for each: user, sold, version
for i = 1, #ARGV, 3 do apply_buyer(KEYS[1], ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return #ARGV / 3
