-- Ends a task that waits; asks the worker of one that runs to end it.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, id, how long the aborted task is kept in ms
-- Reply: 1, also where it was aborted before; 0 when no such task waits or runs
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local sched, aborts, stat = KEYS[4], KEYS[8], KEYS[9]
local prefix, id = ARGV[1], ARGV[2]
local record = prefix .. 't:' .. id
local held = redis.call('HMGET', record, 'state', 'priority', 'unique')
local state = held[1]
if state == 'aborted' then
  return 1
end
if state == 'running' then
  -- No TTL: the script that ends the task, or lets it wait again, removes the id.
  redis.call('SADD', aborts, id)
  return 1
end
if state == 'queued' then
  redis.call('LREM', ready[held[2]], 1, id)
elseif state == 'scheduled' then
  redis.call('ZREM', sched, id)
else
  return 0
end
local clock = redis.call('TIME')
if held[3] then
  redis.call('DEL', prefix .. 'u:' .. held[3])
end
redis.call('HSET', record, 'state', 'aborted', 'error', 'aborted', 'finished',
  clock[1] * 1000 + math.floor(clock[2] / 1000))
redis.call('PEXPIRE', record, ARGV[3])
redis.call('HINCRBY', stat, 'aborted', 1)
return 1
