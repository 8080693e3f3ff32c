-- How many tasks are in each place.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix
-- Reply: sizes of ready (high, normal, low), sched, lease, dead; age in ms of the oldest task that is ready, or 0
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local oldest = now
local reply = {}
for i = 1, 3 do
  reply[i] = redis.call('LLEN', KEYS[i])
  local id = redis.call('LINDEX', KEYS[i], -1)
  if id then
    oldest = math.min(oldest, tonumber(redis.call('HGET', ARGV[1] .. 't:' .. id, 'created') or now))
  end
end
for i = 4, 6 do
  reply[i] = redis.call('ZCARD', KEYS[i])
end
reply[7] = now - oldest
return reply
