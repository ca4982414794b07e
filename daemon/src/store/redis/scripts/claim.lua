-- Claims pending entries for a consumer: the sweep (others' idle ones whose back-off is over) or exactly these ids.
--
-- KEYS  1 input stream  2 ledger  3 retry  4 dead  owned stages only: 5 parked
-- ARGV  1 group  2 consumer  3 stage  4 min idle ms  5 'sweep' | 'ids'
--       sweep: 6 after id  7 count      ids: 6... the ids
-- Reply {next cursor | '', {lost ids}, {{id, fields, deliveries, retry row | ''}, ...}}
-- Keeps: an entry whose payload is gone is booked as lost here, in the same step that drops it from the pending list.
local S, LEDGER, RETRY, DEAD = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, stage, idle, mode = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local wrong = check_types({S, 'stream', LEDGER, 'hash', RETRY, 'hash', DEAD, 'stream'})
if wrong then return wrong end
local summary = pcall_('XPENDING', S, group)
if summary.err then return summary end
local now = now_ms()
local lost, got, next_cursor = {}, {}, ''

local function take(id, deliveries, row)
  local claimed = call('XCLAIM', S, group, consumer, ARGV[4], id)
  local entry = claimed[1]
  if entry and entry[2] then
    got[#got + 1] = {entry[1], entry[2], deliveries + 1, row or ''}
  elseif #call('XRANGE', S, id, id) == 0 then
    book_lost(S, group, stage, LEDGER, RETRY, DEAD, id, now, KEYS[5])
    lost[#lost + 1] = id
  end
end

if mode == 'sweep' then
  local n = tonumber(ARGV[7])
  local rows = call('XPENDING', S, group, 'IDLE', ARGV[4], '(' .. ARGV[6], '+', n)
  for i = 1, #rows do
    local id = rows[i][1]
    if rows[i][2] ~= consumer then
      local row = call('HGET', RETRY, id)
      local not_before = row and tonumber(string.match(row, '^(%d+) ') or '0') or 0
      if not_before <= now then take(id, rows[i][4], row) end
    end
  end
  if #rows == n then next_cursor = rows[#rows][1] end
else
  for i = 6, #ARGV do
    local rows = call('XPENDING', S, group, ARGV[i], ARGV[i], 1)
    if rows[1] and rows[1][3] >= idle then take(ARGV[i], rows[1][4], call('HGET', RETRY, ARGV[i])) end
  end
end
return {next_cursor, lost, got}
