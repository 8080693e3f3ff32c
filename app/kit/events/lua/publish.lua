-- Publish one event: give it an id, append it to its channel's history, PUBLISH it. A repeat changes nothing.
-- KEYS: 1 seen (of this event id), 2 epoch, 3 clock, 4 history stream of the channel, 5 last id of the channel
-- ARGV: 1 epoch to begin where there is none, 2 pub/sub channel, 3 payload, 4 history length, 5 history ms, 6 seen ms,
--       7 channel, 8 log length
-- Reply: "epoch-ms-seq", of the first time where it is a repeat
local seen = redis.call('GET', KEYS[1])
if seen then
  return seen
end

-- The epoch and the clock have no TTL: every cursor with which a client may resume is compared with them.
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
end
-- One stream gives all ids, so that they rise over all channels, also when the server's time steps back. It is also the
-- log that subscribers read: for each id the channel.
local id = redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[8], '*', 'channel', ARGV[7])

-- Each event has the id of the one before it on its channel, by which a reader detects a gap.
local previous = redis.call('GET', KEYS[5]) or '0-0'
redis.call('SET', KEYS[5], id, 'PX', ARGV[5])
redis.call('XADD', KEYS[4], 'MAXLEN', '=', ARGV[4], id, 'previous', previous, 'payload', ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[5])

local full = epoch .. '-' .. id
redis.call('SET', KEYS[1], full, 'PX', ARGV[6])
redis.call('PUBLISH', ARGV[2], id .. ' ' .. previous .. ' ' .. epoch .. ' ' .. ARGV[3])
return full
