-- All depths and the ledger at one instant. Read only.
--
-- KEYS  1 ledger  2 counts  3 dead  4.. input stream of each stage, then of each owned stage its lease and its position
-- ARGV  per stage: group, '1' where it is owned
-- Reply {now ms, ledger flat, total_count, dead length, {per stage}}; per stage {exists, length, last id, added, first id | '',
--        first undelivered id | '', groups as XINFO tells, pending {count, min | ''}, of an owned one
--        {owner | '', epoch, position | '', 1 where its lease ran out}}
local wrong = check_types({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'stream'})
if wrong then return wrong end
local stages, now = {}, now_ms()
local n_stages, n_owned = #ARGV / 2, 0
for i = 4, 3 + n_stages do
  local stream, group, is_owned = KEYS[i], ARGV[2 * (i - 3) - 1], ARGV[2 * (i - 3)] == '1'
  wrong = check_types({stream, 'stream'})
  if wrong then return wrong end
  local stage = {0, 0, '0-0', 0, '', '', {}, {0, ''}}
  if call('EXISTS', stream) == 1 then
    local info = as_map(call('XINFO', 'STREAM', stream))
    local first = info['first-entry']
    stage[1], stage[2], stage[3], stage[4] = 1, info.length, info['last-generated-id'], info['entries-added']
    stage[5] = first and first[1] or ''
    stage[7] = call('XINFO', 'GROUPS', stream)
    local found = group_of(stream, group)
    if found then
      local page = call('XRANGE', stream, '(' .. found['last-delivered-id'], '+', 'COUNT', 1)
      stage[6] = page[1] and page[1][1] or ''
      local summary = call('XPENDING', stream, group)
      stage[8] = {summary[1], summary[2] or ''}
    else
      stage[1] = 0
      stage[6] = stage[5]
    end
  end
  if is_owned then
    local LEASE, POSITION = KEYS[4 + n_stages + 2 * n_owned], KEYS[5 + n_stages + 2 * n_owned]
    n_owned = n_owned + 1
    wrong = check_types({LEASE, 'hash', POSITION, 'string'})
    if wrong then return wrong end
    local lease = call('HMGET', LEASE, 'owner', 'epoch', 'until')
    local is_over = tonumber(lease[3] or '0') <= now
    stage[9] = {lease[1] or '', tonumber(lease[2] or '0'), call('GET', POSITION) or '', is_over and 1 or 0}
  end
  stages[#stages + 1] = stage
end
return {now, call('HGETALL', KEYS[1]), call('HGET', KEYS[2], 'total_count') or '0', call('XLEN', KEYS[3]), stages}
