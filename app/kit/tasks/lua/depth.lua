-- needs: queue
-- How many tasks are in each place.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix
-- Reply: sizes of ready (high, normal, low), sched, lease, dead; how many wait for a limit of their task; age in ms of
--        the oldest task that is ready, or 0
local oldest = now
local reply = {}
for i = 1, 3 do
  reply[i] = redis.call('LLEN', KEYS[i])
  local id = redis.call('LINDEX', KEYS[i], -1)
  if id then
    local held = read(id, 'due', 'created')
    local since = number(held[1] or held[2])
    oldest = since > 0 and math.min(oldest, since) or oldest
  end
end
for i = 4, 6 do
  reply[i] = redis.call('ZCARD', KEYS[i])
end
reply[7] = 0
for _, name in ipairs(redis.call('SMEMBERS', limited)) do
  reply[7] = reply[7] + redis.call('LLEN', typed(prefix .. 'parked:' .. name, 'list'))
end
reply[8] = now - oldest
save_totals()
return reply
