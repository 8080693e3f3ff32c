-- Claim entries of the log for a group, and renew those that are being handled.
-- KEYS: 1 log
-- ARGV: 1 group, which is its one consumer too, 2 most entries, 3 lease ms, then the ids that are being handled
-- Reply: {{id, channel or false, how often it was claimed}, ...}; NOGROUP where there is no group
for at = 4, #ARGV do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[1], 0, ARGV[at], 'JUSTID')
end
local reply = {}

local function add(entry, claims)
  if entry then
    local channel = entry[2] and entry[2][1] == 'channel' and entry[2][2]
    reply[#reply + 1] = {entry[1], channel or '', claims}
  end
end

local most = tonumber(ARGV[2])
if most == 0 then
  return reply
end
-- What a process claimed that has died since.
local abandoned = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[1], ARGV[3], '0-0', 'COUNT', most)[2]
for _, entry in ipairs(abandoned) do
  if entry then
    add(entry, redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)[1][4])
  end
end
if #reply < most then
  local new = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[1], 'COUNT', most - #reply, 'STREAMS', KEYS[1], '>')
  -- {{log, entries}} from Redis, {log, entries} from the embedded store.
  local found = new and (type(new[1]) == 'table' and new[1][2] or new[2])
  for _, entry in ipairs(found or {}) do
    add(entry, 1)
  end
end
return reply
