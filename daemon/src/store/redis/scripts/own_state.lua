-- What is kept under state keys.
--
-- KEYS  1 state
-- ARGV  1 bytes at most  2... state keys
-- Reply their values ('version value', or nil) in order, as many of the first as fit, at least one.
local wrong = check_types({KEYS[1], 'hash'})
if wrong then return wrong end
local found, size, n = {}, 0, #ARGV - 1
-- A few at a time, so that values which do not fit are not all read.
for at = 1, n, 25 do
  local to = math.min(at + 24, n)
  local raw = call('HMGET', KEYS[1], unpack(ARGV, at + 1, to + 1))
  for i = 1, to - at + 1 do
    if raw[i] then
      local _, broken = version_of(KEYS[1], ARGV[at + i], raw[i])
      if broken then return broken end
      size = size + #raw[i]
    end
    found[at + i - 1] = raw[i]
  end
  if size >= tonumber(ARGV[1]) then break end
end
return found
