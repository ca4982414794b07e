-- All depths and the ledger at one instant. Read only.
--
-- KEYS  1 ledger  2 counts  3 dead  4.. input stream of each stage
-- ARGV  per stage: group
-- Reply {now ms, ledger flat, total_count, dead length, {per stage}}; per stage {exists, length, last id, added, first id | '',
--        first undelivered id | '', groups as XINFO tells, pending {count, min | ''}}
local wrong = check_types({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'stream'})
if wrong then return wrong end
local stages = {}
for i = 4, #KEYS do
  local stream, group = KEYS[i], ARGV[i - 3]
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
  stages[#stages + 1] = stage
end
return {now_ms(), call('HGETALL', KEYS[1]), call('HGET', KEYS[2], 'total_count') or '0', call('XLEN', KEYS[3]), stages}
