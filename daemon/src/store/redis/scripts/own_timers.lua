-- Timers that are due by the server's clock.
--
-- KEYS  1 timers
-- ARGV  1 at most
-- Reply {ms until the next one after these, or -1, key, due, ...}, the oldest first.
local wrong = check_types({KEYS[1], 'zset'})
if wrong then return wrong end
local now, n = now_ms(), tonumber(ARGV[1])
local rows = call('ZRANGEBYSCORE', KEYS[1], 0, digits(now), 'WITHSCORES', 'LIMIT', 0, n)
local reply = {-1}
for i = 1, #rows, 2 do
  reply[i + 1] = rows[i]
  reply[i + 2] = digits(math.floor(tonumber(rows[i + 1])))
end
if #rows == 2 * n then reply[1] = 0
else
  local next_one = call('ZRANGEBYSCORE', KEYS[1], '(' .. digits(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  -- A foreign score can be far beyond what a reply of a script holds.
  if next_one[2] then reply[1] = math.min(tonumber(next_one[2]) - now, 86400000) end
end
return reply
