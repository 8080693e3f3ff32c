-- Deletes dead letters.
-- KEYS: the places of the queue, as Keys.task_places() lists them
-- ARGV: the queue's prefix; then the ids
-- Reply: how many were dead
local purged = 0
for i = 2, #ARGV do
  if redis.call('ZREM', KEYS[6], ARGV[i]) == 1 then
    redis.call('UNLINK', ARGV[1] .. 't:' .. ARGV[i])
    purged = purged + 1
  end
end
return purged
