-- Trims one stream, heals a wrong lag, keeps the mark that tells a stream that began anew.
--
-- KEYS  1 input stream  2 ledger  3.. position of each stage that reads it (owned ones have one)
-- ARGV  1 keep ms  2 count limit of entries counted  3 '1' for the source stream
--       4.. per stage that reads it: name, group
-- Reply {trimmed, lost unread}
-- Keeps: an entry that any group (also a third party's) has not read and acknowledged is never trimmed, nor one that the
-- owner of a stage has not passed, wherever somebody moved its group.
local S, LEDGER = KEYS[1], KEYS[2]
local types = {S, 'stream', LEDGER, 'hash'}
for i = 3, #KEYS do
  types[#types + 1] = KEYS[i]
  types[#types + 1] = 'string'
end
local wrong = check_types(types)
if wrong then return wrong end
if call('EXISTS', S) == 0 then return {0, 0} end
local info = as_map(call('XINFO', 'STREAM', S))
local added, length = info['entries-added'], info.length
local first = info['first-entry'] and info['first-entry'][1]
local lost_unread = 0
-- Entries that ever came to a stage: added to the source stream, or emitted by its parent.
local function came_to(n_added)
  if ARGV[3] == '1' then return n_added end
  return tonumber(call('HGET', LEDGER, 'emitted:' .. S) or '0')
end

-- Newer servers (Redis 7.4 and 8, Valkey 8) count entries that were trimmed unread as read when the group reads on. Found
-- out on a stream of its own, and only when it matters.
local function reads_jump()
  local probe = LEDGER .. ':probe'
  call('DEL', probe)
  call('XGROUP', 'CREATE', probe, 'g', '0', 'MKSTREAM')
  for n = 1, 4 do call('XADD', probe, n .. '-1', 'f', 'v') end
  call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 1, 'STREAMS', probe, '>')
  call('XTRIM', probe, 'MAXLEN', 1)
  call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 1, 'STREAMS', probe, '>')
  local read = group_of(probe, 'g')['entries-read']
  call('DEL', probe)
  return read ~= 2
end
-- Entries that others took out of the stream, since it began or since it came to us.
local removed = added - length - tonumber(call('HGET', LEDGER, 'trimmed:' .. S) or '0')

for i = 4, #ARGV, 2 do
  local stage, group = ARGV[i], ARGV[i + 1]
  local found = group_of(S, group)
  if not found or not call('HGET', LEDGER, 'base:' .. stage) then return {0, lost_unread} end
  local delivered = found['last-delivered-id']
  local actual = nil
  local unread = call('XRANGE', S, '(' .. delivered, '+', 'COUNT', 1)[1]
  local position = call('GET', KEYS[2 + (i - 2) / 2])
  if position and position ~= delivered then
    -- Somebody moved the group of an owned stage: what is lost is told by its owner's next commit.
    actual = nil
  elseif not unread then
    actual = 0
  elseif unread[1] == first then
    actual = length
  elseif not found.lag then
    actual = 0
    local at = '(' .. delivered
    while actual do
      local page = call('XRANGE', S, at, '+', 'COUNT', 1000)
      actual = actual + #page
      if #page < 1000 then break end
      if actual >= tonumber(ARGV[2]) then actual = nil end
      at = '(' .. page[#page][1]
    end
  end
  if actual then
    -- What the ledger misses and the group has not read: the first alone would count entries that a third party
    -- acknowledged, the second alone is wrong after the append-only file was loaded.
    local missed = came_to(added) - base_of(LEDGER, stage) - settled_of(LEDGER, stage) - found.pending - actual
    local open = found['entries-read'] and added - found['entries-read'] - actual or missed
    -- From a stream that nothing was taken out of nothing is lost: somebody moved the group over what it skipped.
    if added == length then open = 0 end
    -- Where the server says too little, what others took out since the last round bounds it.
    local known = tonumber(call('HGET', LEDGER, 'removed:' .. stage) or '0')
    if missed > open and removed - known > math.max(open, 0) and reads_jump() then open = removed - known end
    if removed ~= known then call('HSET', LEDGER, 'removed:' .. stage, digits(removed)) end
    local lost = math.max(0, math.min(missed, open))
    if lost > 0 then call('HINCRBY', LEDGER, stage .. ':lost', lost) end
    if found['entries-read'] ~= added - actual then
      call('XGROUP', 'SETID', S, group, delivered, 'ENTRIESREAD', digits(added - actual))
    end
    lost_unread = lost_unread + lost
  end
  if added >= tonumber(call('HGET', LEDGER, 'added:' .. stage) or '0') then call('HSET', LEDGER, 'added:' .. stage, digits(added)) end
end

-- MINID: the smallest of every group's oldest pending and last delivered id, and not younger than `keep`.
local _, all = group_of(S, '')
local cut = digits(math.max(0, now_ms() - tonumber(ARGV[1]))) .. '-0'
for i = 1, #all do
  local g = all[i]
  local bound = g['last-delivered-id']
  local summary = call('XPENDING', S, g.name)
  if summary[1] > 0 and below(summary[2], bound) then bound = summary[2] end
  if below(bound, cut) then cut = bound end
end
for i = 3, #KEYS do
  local position = call('GET', KEYS[i])
  if position and below(position, cut) then cut = position end
end
local trimmed = call('XTRIM', S, 'MINID', '~', cut, 'LIMIT', 20000)
if trimmed > 0 then call('HINCRBY', LEDGER, 'trimmed:' .. S, trimmed) end
return {trimmed, lost_unread}
