-- Read one page of the history of some channels, all at one instant.
-- KEYS: 1 epoch, 2 clock, then for each channel its history stream and its last id
-- ARGV: 1 epoch to begin where there is none, 2 seconds after which an idle clock ticks, 3 entries a channel,
--       4 bytes of all entries, beyond which each channel has one, 5 log length, then for each channel the id to read after
-- Reply: {epoch, id of the clock, seconds of the server's time,
--         then for each channel {last id or 0-0, {{id, fields}, ...}, 1 where it has more or 0}}

-- The epoch and the clock have no TTL: every cursor with which a client may resume is compared with them.
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[1], epoch)
end

-- The clock advances when nothing was published for long, or a new cursor would look too old at once.
local now = redis.call('TIME')[1]
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local clock = last and last[1]
if not clock or tonumber(now) - tonumber(string.match(clock, '^%d+')) / 1000 > tonumber(ARGV[2]) then
  clock = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'tick', '')
end

local most, left = tonumber(ARGV[3]), tonumber(ARGV[4])
local reply = {epoch, clock, now}
for at = 6, #ARGV do
  local last = redis.call('GET', KEYS[2 * at - 8]) or '0-0'
  local after, entries = ARGV[at], {}
  repeat
    -- One at a time: a hundred large ones would be read to return the first.
    local entry = redis.call('XRANGE', KEYS[2 * at - 9], '(' .. after, '+', 'COUNT', 1)[1]
    if entry then
      after = entry[1]
      left = left - #(entry[2][4] or '')
      entries[#entries + 1] = entry
    end
  until not entry or #entries == most or left <= 0
  local more = #entries > 0 and after ~= last
  reply[#reply + 1] = {last, entries, more and 1 or 0}
end
return reply
