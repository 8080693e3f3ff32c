-- needs: queue
-- Enqueues dead letters again, with all attempts before them. One whose unique key another task holds stays dead.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix; then the ids
-- Reply: how many were requeued
local requeued = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('ZSCORE', dead, id) then
    local held, record = read(id, 'priority', 'unique', 'state')
    if held[3] ~= 'failed' then
      -- Another program has deleted or replaced its record.
      redis.call('ZREM', dead, id)
    elseif not held[2] or redis.call('SETNX', typed(prefix .. 'u:' .. held[2], 'string'), id) == 1 then
      redis.call('HDEL', record, 'attempts', 'deaths', 'error', 'trace', 'finished', 'progress', 'expires')
      redis.call('HSET', record, 'state', 'queued', 'due', now)
      redis.call('LPUSH', list_of(held[1]), id)
      redis.call('ZREM', dead, id)
      requeued = requeued + 1
    end
  end
end
if requeued > 0 then
  wake_one()
end
save_totals()
return requeued
