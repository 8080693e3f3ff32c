-- needs: queue
-- Deletes dead letters, and aborts the tasks that they hold.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix, how long an aborted task is kept in ms; then the ids
-- Reply: how many were dead
local purged = 0
for i = 3, #ARGV do
  if redis.call('ZSCORE', dead, ARGV[i]) then
    local held, record = read(ARGV[i], 'children')
    redis.call('ZREM', dead, ARGV[i])
    redis.call('UNLINK', record)
    if held[1] then
      drop(held[1], 'its parent was purged', ARGV[2])
    end
    purged = purged + 1
  end
end
save_totals()
return purged
