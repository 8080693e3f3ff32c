-- How many tasks are in each place.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix
-- Reply: sizes of ready (high, normal, low), sched, lease, dead; how many wait for a limit of their task; age in ms of
--        the oldest task that is ready, or 0
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local oldest = now
local reply = {}
for i = 1, 3 do
  reply[i] = redis.call('LLEN', KEYS[i])
  local id = redis.call('LINDEX', KEYS[i], -1)
  if id then
    local held = redis.call('HMGET', ARGV[1] .. 't:' .. id, 'due', 'created')
    oldest = math.min(oldest, tonumber(held[1] or held[2] or now))
  end
end
for i = 4, 6 do
  reply[i] = redis.call('ZCARD', KEYS[i])
end
reply[7] = 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[11])) do
  reply[7] = reply[7] + redis.call('LLEN', ARGV[1] .. 'parked:' .. name)
end
reply[8] = now - oldest
return reply
