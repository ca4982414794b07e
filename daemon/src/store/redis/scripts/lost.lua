-- Books pending entries whose payload is gone (found when a consumer read its own backlog).
--
-- KEYS  1 input stream  2 ledger  3 retry  4 dead  owned stages only: 5 parked
-- ARGV  1 group  2 stage  3... ids
-- Reply the ids booked: those that are pending and really gone.
local booked, now = {}, now_ms()
for i = 3, #ARGV do
  local id = ARGV[i]
  local rows = pcall_('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if rows.err then return rows end
  if #rows == 1 and #call('XRANGE', KEYS[1], id, id) == 0 then
    book_lost(KEYS[1], ARGV[1], ARGV[2], KEYS[2], KEYS[3], KEYS[4], id, now, KEYS[5])
    booked[#booked + 1] = id
  end
end
return booked
