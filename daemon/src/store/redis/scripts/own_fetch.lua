-- Payloads of parked entries.
--
-- KEYS  1 input stream  2 ledger  3 retry  4 dead  5 parked
-- ARGV  1 group  2 stage  3... ids
-- Reply {{lost ids}, {{id, fields, retry row | ''}, ...}}; ids that are not parked any more are left out.
-- Keeps: a parked entry whose payload is gone is booked as lost once.
local wrong = check_types({KEYS[1], 'stream', KEYS[2], 'hash', KEYS[3], 'hash', KEYS[4], 'stream', KEYS[5], 'zset'})
if wrong then return wrong end
local lost, got, now = {}, {}, now_ms()
for i = 3, #ARGV do
  local id = ARGV[i]
  if call('ZSCORE', KEYS[5], id) then
    local entry = call('XRANGE', KEYS[1], id, id)[1]
    if entry then
      got[#got + 1] = {id, entry[2], call('HGET', KEYS[3], id) or ''}
    else
      book_lost(KEYS[1], ARGV[1], ARGV[2], KEYS[2], KEYS[3], KEYS[4], id, now, KEYS[5])
      lost[#lost + 1] = id
    end
  end
end
return {lost, got}
