-- needs: ended
-- Deletes dead letters, and aborts the tasks that they hold.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, how long an aborted task is kept in ms; then the ids
-- Reply: how many were dead
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local purged = 0
for i = 3, #ARGV do
  if redis.call('ZREM', KEYS[6], ARGV[i]) == 1 then
    local record = ARGV[1] .. 't:' .. ARGV[i]
    local children = redis.call('HGET', record, 'children')
    redis.call('UNLINK', record)
    if children then
      drop(ARGV[1], children, 'its parent was purged', now, ARGV[2])
    end
    purged = purged + 1
  end
end
save_totals(KEYS[9])
return purged
