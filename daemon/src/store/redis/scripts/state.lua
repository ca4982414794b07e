-- Keyed state, shared by the scripts that change it. Values are kept as 'version value', a version is '<epoch>-<number>'.
-- A block is msgpack {version, {key, expected version | '', ...}, {key, new value, ...}, {forgotten key, ...},
--   {key, ms until its timer is due, ...}, {key whose timer is taken off, ...}, {indices of entries that depend on it}}.
-- Lists go in pieces, because Lua's `unpack` is limited to about 8,000 values.
local VALUE_MAX = 262144

local function pieces(list, act)
  for at = 1, #list, 1000 do act(unpack(list, at, math.min(at + 999, #list))) end
end

local function version_of(STATE, key, raw)
  local version = string.match(raw, '^(%d+%-%d+) ')
  if version and #raw <= VALUE_MAX + #version + 1 then return version end
  return nil, redis.error_reply('BROKEN field "' .. key .. '" of "' .. STATE .. '" is no state that this pipeline has written; delete the field to begin anew with this key')
end

-- Read only: an error reply, or whether every key still has the version with which it was read.
local function state_check(STATE, TIMERS, block)
  local wrong = check_types({STATE, 'hash', TIMERS, 'zset'})
  if wrong then return wrong end
  local list, is_same = block[2], true
  for at = 1, #list, 1000 do
    local fields = {}
    for i = at, math.min(at + 999, #list), 2 do fields[#fields + 1] = list[i] end
    local raw = call('HMGET', STATE, unpack(fields))
    for i = 1, #fields do
      local version = ''
      if raw[i] then
        version, wrong = version_of(STATE, fields[i], raw[i])
        if wrong then return wrong end
      end
      if version ~= list[at + 2 * i - 1] then is_same = false end
    end
  end
  return nil, is_same
end

local function state_write(STATE, TIMERS, block, now)
  local version, set, due = block[1], block[3], block[5]
  for i = 2, #set, 2 do set[i] = version .. ' ' .. set[i] end
  pieces(set, function(...) call('HSET', STATE, ...) end)
  pieces(block[4], function(...) call('HDEL', STATE, ...) end)
  local timers = {}
  for i = 1, #due, 2 do
    timers[i] = digits(now + due[i + 1])
    timers[i + 1] = due[i]
  end
  pieces(timers, function(...) call('ZADD', TIMERS, ...) end)
  pieces(block[6], function(...) call('ZREM', TIMERS, ...) end)
end
