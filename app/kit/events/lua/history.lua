-- Read one page of the history of some channels, all at one instant.
-- KEYS: 1 epoch, 2 clock, then for each channel its history stream and its last id
-- ARGV: 1 epoch to begin where there is none, 2 seconds after which an idle clock ticks, 3 entries a page,
--       4 log length, then for each channel the id to read after
-- Reply: {epoch, id of the clock, seconds of the server's time,
--         then for each channel {last id or 0-0, {{id, fields}, ...}}}

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
  clock = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'tick', '')
end

local reply = {epoch, clock, now}
for at = 5, #ARGV do
  local entries = redis.call('XRANGE', KEYS[2 * at - 7], '(' .. ARGV[at], '+', 'COUNT', ARGV[3])
  reply[#reply + 1] = {redis.call('GET', KEYS[2 * at - 6]) or '0-0', entries}
end
return reply
