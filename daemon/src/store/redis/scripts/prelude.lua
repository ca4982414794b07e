-- Shared by every script. Ids are compared as pairs of digit strings, because a Lua number holds only 53 bits.
local call, pcall_ = redis.call, redis.pcall

local function split(id)
  local at = string.find(id, '-', 1, true)
  return string.sub(id, 1, at - 1), string.sub(id, at + 1)
end

-- a < b, as Redis orders ids.
local function below(a, b)
  local am, as = split(a)
  local bm, bs = split(b)
  if #am ~= #bm then return #am < #bm end
  if am ~= bm then return am < bm end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end

local function digits(n) return string.format('%.0f', n) end

-- The same for what fits 53 bits, without the cost of formatting a floating-point number.
local function integer(n) return string.format('%d', n) end

-- The next greater id; nil where the sequence does not fit a Lua number exactly.
local function after(id)
  local ms, seq = split(id)
  local n = tonumber(seq)
  if n >= 9007199254740000 then return nil end
  return ms .. '-' .. digits(n + 1)
end

-- The next smaller id.
local function before(id)
  local ms, seq = split(id)
  local n = tonumber(seq)
  if n > 0 and n < 9007199254740000 then return ms .. '-' .. digits(n - 1) end
  if n == 0 then
    local m = tonumber(ms)
    if m == 0 then return '0-0' end
    return digits(m - 1) .. '-18446744073709551615'
  end
  return id
end

local function now_ms()
  local t = call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- A flat reply (name, value, ...) as a table.
local function as_map(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function is_type(key, wanted)
  local got = call('TYPE', key).ok
  return got == 'none' or got == wanted, got
end

-- nil when every key is of its type, else an error reply. `types` = key, type, key, type, ...
local function check_types(types)
  for i = 1, #types, 2 do
    local ok, got = is_type(types[i], types[i + 1])
    if not ok then
      return redis.error_reply('BROKEN key "' .. types[i] .. '" holds a ' .. got .. ' where the pipeline keeps a ' .. types[i + 1])
    end
  end
  return nil
end

-- The group as XINFO GROUPS tells it; nil when stream or group is gone.
local function group_of(stream, group)
  local groups = pcall_('XINFO', 'GROUPS', stream)
  if groups.err then return nil, {} end
  local all, found = {}, nil
  for i = 1, #groups do
    local g = as_map(groups[i])
    all[i] = g
    if g.name == group then found = g end
  end
  return found, all
end

-- Entries of a stage that are finished, one way or another.
local function settled_of(ledger, stage)
  local sum = 0
  for _, name in ipairs({'ended', 'forwarded', 'filtered', 'late', 'discarded', 'deduplicated', 'dead', 'lost'}) do
    sum = sum + tonumber(call('HGET', ledger, stage .. ':' .. name) or '0')
  end
  return sum
end

-- Where a stage's count of entries begins: its base, and entries that were added again for it by a redrive.
local function base_of(ledger, stage)
  local at = call('HMGET', ledger, 'base:' .. stage, 'readded:' .. stage)
  return tonumber(at[1] or '0') + tonumber(at[2] or '0')
end

-- Books a pending entry whose payload is gone: acknowledged, `lost`, a row in the dead letters that does not count.
-- In owned stages `parked` is given and tells whether it is still open; there it is booked once, whoever finds it.
local function book_lost(stream, group, stage, ledger, retry, dead, id, now, parked)
  call('XACK', stream, group, id)
  if parked and call('ZREM', parked, id) == 0 then return end
  call('HINCRBY', ledger, stage .. ':lost', 1)
  local row = call('HGET', retry, id)
  local tries, first = '0', '0'
  if row then
    local _, f, s = string.match(row, '^(%d+) (%d+) (%d+) ')
    tries, first = f or '0', s or '0'
    call('HDEL', retry, id)
  end
  call('XADD', dead, '*', '_stage', stage, '_stream', stream, '_id', id, '_cause', 'trimmed', '_reason', 'trimmed',
    '_error', 'the entry was trimmed or deleted while it was pending', '_tries', tries, '_first_ms', first, '_counts', '0')
end
