-- Ends joins as Postgres decided them and takes the rows that they wrote, at once.
-- KEYS  inventory, joining
-- ARGV  number of joins, then each as "ticket type:join";
--       then for each ticket type: id, capacity, sold, reserved, price, version, waited for
-- Says  how many joins there were
local ev, joining = KEYS[1], KEYS[2]
local joins = tonumber(ARGV[1])
if redis.call('HEXISTS', ev, 'state') == 1 then
  for i = joins + 2, #ARGV, 7 do
    apply_seats(ev, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  end
end
for i = 2, joins + 1 do end_join(ev, joining, ARGV[i]) end
return joins
