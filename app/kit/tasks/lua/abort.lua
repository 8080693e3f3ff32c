-- needs: ended
-- Ends a task that waits; asks the worker of one that runs to end it, and wakes it.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, id, how long the aborted task is kept in ms
-- Reply: 1, also where it was aborted before; 0 when no such task waits or runs
local ready = {high = KEYS[1], normal = KEYS[2], low = KEYS[3]}
local sched, aborts, stat, limited = KEYS[4], KEYS[8], KEYS[9], KEYS[11]
local prefix, id = ARGV[1], ARGV[2]
local record = prefix .. 't:' .. id
local held = redis.call('HMGET', record, 'state', 'priority', 'unique', 'worker', 'name', 'parked', 'children')
local state = held[1]
if state == 'aborted' then
  return 1
end
if state == 'running' then
  -- No TTL: the script that ends the task, or lets it wait again, removes the id.
  redis.call('SADD', aborts, id)
  local wake = prefix .. 'wake:' .. held[4]
  redis.call('LPUSH', wake, 1)
  redis.call('LTRIM', wake, 0, 0)
  redis.call('PEXPIRE', wake, 60000)
  return 1
end
if state == 'queued' and held[6] then
  redis.call('LREM', prefix .. 'parked:' .. held[5], 1, id)
  if redis.call('EXISTS', prefix .. 'parked:' .. held[5]) == 0 then
    redis.call('SREM', limited, held[5])
  end
elseif state == 'queued' then
  redis.call('LREM', ready[held[2]], 1, id)
elseif state == 'scheduled' then
  redis.call('ZREM', sched, id)
elseif state ~= 'held' then
  return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if held[3] then
  redis.call('DEL', prefix .. 'u:' .. held[3])
end
redis.call('HDEL', record, 'parked', 'children')
redis.call('HSET', record, 'state', 'aborted', 'error', 'aborted', 'finished', now)
redis.call('PEXPIRE', record, ARGV[3])
add('aborted')
if held[7] then
  drop(prefix, held[7], 'its parent was aborted', now, ARGV[3])
end
save_totals(stat)
return 1
