-- Heartbeat of long work: resets the idle time of ids that this consumer still holds. Never takes one back from another.
--
-- KEYS  1 input stream
-- ARGV  1 group  2 consumer  3... ids
-- Reply the ids that it holds. An id whose payload is gone is left as it is: XCLAIM would drop it without a trace.
local held = {}
for i = 3, #ARGV do
  local rows = pcall_('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if rows.err then return rows end
  if #rows == 1 then
    held[#held + 1] = ARGV[i]
    if #call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 1 then
      call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    end
  end
end
return held
