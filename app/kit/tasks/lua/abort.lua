-- needs: queue
-- Ends a task that waits; asks the worker of one that runs to end it, and wakes it.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, id, how long the aborted task is kept in ms
-- Reply: 1, also where it was aborted before; 0 when no such task waits or runs
local id = ARGV[2]
local held, record = read(id, 'state', 'priority', 'unique', 'worker', 'name', 'parked', 'children')
local state = held[1]

local function leave_its_place()
  if state == 'queued' and held[6] then
    local parked = typed(prefix .. 'parked:' .. (held[5] or ''), 'list')
    redis.call('LREM', parked, 1, id)
    if redis.call('EXISTS', parked) == 0 then
      redis.call('SREM', limited, held[5] or '')
    end
  elseif state == 'queued' then
    redis.call('LREM', list_of(held[2]), 1, id)
  elseif state == 'scheduled' then
    redis.call('ZREM', sched, id)
  end
end

local reply = 0
if state == 'aborted' then
  reply = 1
elseif state == 'running' then
  -- No TTL: the script that ends the task, or lets it wait again, removes the id.
  redis.call('SADD', aborts, id)
  local own = typed(prefix .. 'wake:' .. (held[4] or ''), 'list')
  redis.call('LPUSH', own, 1)
  redis.call('LTRIM', own, 0, 0)
  redis.call('PEXPIRE', own, 60000)
  reply = 1
elseif state == 'queued' or state == 'scheduled' or state == 'held' then
  leave_its_place()
  if held[3] then
    redis.call('DEL', prefix .. 'u:' .. held[3])
  end
  redis.call('HDEL', record, 'parked', 'children')
  redis.call('HSET', record, 'state', 'aborted', 'error', 'aborted', 'finished', now)
  redis.call('PEXPIRE', record, ARGV[3])
  add('aborted')
  if held[7] then
    drop(held[7], 'its parent was aborted', ARGV[3])
  end
  reply = 1
end
save_totals()
return reply
